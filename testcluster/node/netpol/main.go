// netpol: enforces networking.k8s.io/v1 NetworkPolicy for the pods of ONE node, IPv4 only,
// by compiling all policies into one nftables table ("inet kubeop_netpol"), replaced atomically.
//
// Why not kube-network-policies: it needs the nft "queue" expression (CONFIG_NFT_QUEUE), and the
// module proxy does not serve it. Why not kube-router: the module proxy does not serve it.
//
// Semantics: forward hook = pod to pod / pod to outside, input hook = pod to the node itself.
// Node to pod (output hook: kubelet probes, kube-apiserver) is always let through, as the API allows.
// Established connections keep flowing when a policy is added. Drops are silent (clients time out).
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"log"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func sel(s *metav1.LabelSelector) labels.Selector {
	r, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return r
}

type world struct {
	pods []*corev1.Pod
	ns   map[string]labels.Set
	pols []*netv1.NetworkPolicy
}

func live(p *corev1.Pod) bool {
	return !p.Spec.HostNetwork && p.Status.PodIP != "" && !strings.Contains(p.Status.PodIP, ":") &&
		p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// namedPort gives the number of a named container port of pod p, 0 if it has none.
func namedPort(p *corev1.Pod, name string, proto corev1.Protocol) int32 {
	for _, c := range append(append([]corev1.Container{}, p.Spec.Containers...), p.Spec.InitContainers...) {
		for _, cp := range c.Ports {
			pr := cp.Protocol
			if pr == "" {
				pr = corev1.ProtocolTCP
			}
			if cp.Name == name && pr == proto {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

// portMatches gives the nft matches (an OR) of a port list at destination pod dst (nil: unknown).
func portMatches(ports []netv1.NetworkPolicyPort, dst *corev1.Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var out []string
	for _, p := range ports {
		proto := corev1.ProtocolTCP
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		l := strings.ToLower(string(proto))
		switch {
		case p.Port == nil:
			out = append(out, "meta l4proto "+l)
		case p.Port.Type == intstr.String:
			if dst != nil {
				if n := namedPort(dst, p.Port.StrVal, proto); n != 0 {
					out = append(out, fmt.Sprintf("%s dport %d", l, n))
				}
			}
		case p.EndPort != nil:
			out = append(out, fmt.Sprintf("%s dport %d-%d", l, p.Port.IntVal, *p.EndPort))
		default:
			out = append(out, fmt.Sprintf("%s dport %d", l, p.Port.IntVal))
		}
	}
	return out
}

func hasNamed(ports []netv1.NetworkPolicyPort) bool {
	for _, p := range ports {
		if p.Port != nil && p.Port.Type == intstr.String {
			return true
		}
	}
	return false
}

// peerPods gives the pods that a peer (not an ipBlock) selects, seen from namespace ns.
func (w *world) peerPods(ns string, peer netv1.NetworkPolicyPeer) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range w.pods {
		if peer.NamespaceSelector == nil {
			if p.Namespace != ns {
				continue
			}
		} else if !sel(peer.NamespaceSelector).Matches(w.ns[p.Namespace]) {
			continue
		}
		if peer.PodSelector != nil && !sel(peer.PodSelector).Matches(labels.Set(p.Labels)) {
			continue
		}
		out = append(out, p)
	}
	return out
}

func ips(ps []*corev1.Pod) string {
	m := map[string]bool{}
	var l []string
	for _, p := range ps {
		if !m[p.Status.PodIP] {
			m[p.Status.PodIP] = true
			l = append(l, p.Status.PodIP)
		}
	}
	sort.Strings(l)
	return strings.Join(l, ", ")
}

// allow gives the "return" rules of one ingress rule (field saddr) or egress rule (field daddr).
func (w *world) allow(ns, field string, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort, self *corev1.Pod) []string {
	var out []string
	add := func(addr string, dst *corev1.Pod) {
		for _, m := range portMatches(ports, dst) {
			out = append(out, strings.TrimSpace(addr+" "+m)+" return")
		}
	}
	egressNamed := field == "daddr" && hasNamed(ports)
	if len(peers) == 0 && !egressNamed {
		add("", self)
		return out
	}
	if len(peers) == 0 { // egress to anywhere at a named port: resolve per destination pod
		for _, p := range w.pods {
			add("ip daddr "+p.Status.PodIP, p)
		}
		return out
	}
	for _, peer := range peers {
		if b := peer.IPBlock; b != nil {
			if strings.Contains(b.CIDR, ":") {
				continue
			}
			a := "ip " + field + " " + b.CIDR
			if len(b.Except) > 0 {
				a += " ip " + field + " != { " + strings.Join(b.Except, ", ") + " }"
			}
			add(a, self)
			continue
		}
		ps := w.peerPods(ns, peer)
		if len(ps) == 0 {
			continue
		}
		if egressNamed {
			for _, p := range ps {
				add("ip daddr "+p.Status.PodIP, p)
			}
			continue
		}
		add("ip "+field+" { "+ips(ps)+" }", self)
	}
	return out
}

func (w *world) compile() string {
	var chains, inMap, egMap []string
	for _, p := range w.pods {
		var in, eg []string
		isIn, isEg := false, false
		for _, np := range w.pols {
			if np.Namespace != p.Namespace || !sel(&np.Spec.PodSelector).Matches(labels.Set(p.Labels)) {
				continue
			}
			types := np.Spec.PolicyTypes
			if len(types) == 0 { // the API server defaults this; kept for safety
				types = []netv1.PolicyType{netv1.PolicyTypeIngress}
				if len(np.Spec.Egress) > 0 {
					types = append(types, netv1.PolicyTypeEgress)
				}
			}
			for _, t := range types {
				if t == netv1.PolicyTypeIngress {
					isIn = true
					for _, r := range np.Spec.Ingress {
						in = append(in, w.allow(np.Namespace, "saddr", r.From, r.Ports, p)...)
					}
				} else {
					isEg = true
					for _, r := range np.Spec.Egress {
						eg = append(eg, w.allow(np.Namespace, "daddr", r.To, r.Ports, nil)...)
					}
				}
			}
		}
		h := fnv.New32a()
		h.Write([]byte(p.Namespace + "/" + p.Name))
		id := fmt.Sprintf("%08x_%s", h.Sum32(), strings.ReplaceAll(p.Status.PodIP, ".", "_"))
		body := func(name string, rules []string) string {
			return fmt.Sprintf(" chain %s { # %s/%s\n  %s\n  counter drop\n }\n", name, p.Namespace, p.Name, strings.Join(rules, "\n  "))
		}
		if isIn {
			chains = append(chains, body("in_"+id, in))
			inMap = append(inMap, p.Status.PodIP+" : jump in_"+id)
		}
		if isEg {
			chains = append(chains, body("eg_"+id, eg))
			egMap = append(egMap, p.Status.PodIP+" : jump eg_"+id)
		}
	}
	vmap := func(field string, m []string) string {
		if len(m) == 0 {
			return ""
		}
		sort.Strings(m)
		return "  ip " + field + " vmap { " + strings.Join(m, ", ") + " }\n"
	}
	est := "  ct state established,related accept\n"
	var b strings.Builder
	b.WriteString("table inet kubeop_netpol {}\ndelete table inet kubeop_netpol\ntable inet kubeop_netpol {\n")
	for _, c := range chains {
		b.WriteString(c)
	}
	b.WriteString(" chain forward {\n  type filter hook forward priority 5; policy accept;\n" + est + vmap("saddr", egMap) + vmap("daddr", inMap) + " }\n")
	b.WriteString(" chain input {\n  type filter hook input priority 5; policy accept;\n" + est + vmap("saddr", egMap) + " }\n}\n")
	return b.String()
}

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		cniMain()
		return
	}
	sock := flag.String("socket", "", "unix socket for the chained CNI plugin (this same binary)")
	kc := flag.String("kubeconfig", "", "kubeconfig file")
	verbose := flag.Bool("v", false, "log every ruleset")
	flag.Parse()
	cfg, err := clientcmd.BuildConfigFromFlags("", *kc)
	if err != nil {
		log.Fatal(err)
	}
	cs := kubernetes.NewForConfigOrDie(cfg)
	f := informers.NewSharedInformerFactory(cs, 10*time.Minute)
	kick := make(chan struct{}, 1)
	poke := func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	h := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { poke() }, UpdateFunc: func(_, _ any) { poke() }, DeleteFunc: func(any) { poke() }}
	pods, nss, pols := f.Core().V1().Pods(), f.Core().V1().Namespaces(), f.Networking().V1().NetworkPolicies()
	pods.Informer().AddEventHandler(h)
	nss.Informer().AddEventHandler(h)
	pols.Informer().AddEventHandler(h)
	ctx := context.Background()
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	log.Print("synced")
	last := ""
	early := map[string]string{} // namespace/name -> IP told by the CNI plugin, until pod status shows it
	reqs := make(chan addReq)
	if *sock != "" {
		go serve(*sock, reqs)
	}
	var waiting []addReq
	for {
		select {
		case <-kick:
		case r := <-reqs:
			early[r.Namespace+"/"+r.Name] = r.IP
			waiting = append(waiting, r)
			for more := true; more; {
				select {
				case r := <-reqs:
					early[r.Namespace+"/"+r.Name] = r.IP
					waiting = append(waiting, r)
				default:
					more = false
				}
			}
		}
		w := world{ns: map[string]labels.Set{}}
		pl, _ := pods.Lister().List(labels.Everything())
		seen := map[string]bool{}
		for _, p := range pl {
			k := p.Namespace + "/" + p.Name
			seen[k] = true
			if ip, ok := early[k]; ok {
				if p.Status.PodIP == ip || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
					delete(early, k)
				} else {
					p = p.DeepCopy()
					p.Status.PodIP = ip
				}
			}
			if live(p) {
				w.pods = append(w.pods, p)
			}
		}
		late := false // a plugin call for a pod that the informer has not seen yet (given up after 10 s)
		wanted, rest := map[string]bool{}, waiting[:0]
		for _, r := range waiting {
			k := r.Namespace + "/" + r.Name
			if !seen[k] && time.Since(r.at) > 10*time.Second {
				continue
			}
			wanted[k], rest = true, append(rest, r)
			late = late || !seen[k]
		}
		waiting = rest
		for k := range early {
			if !seen[k] && !wanted[k] {
				delete(early, k)
			}
		}
		sort.Slice(w.pods, func(i, j int) bool {
			return w.pods[i].Namespace+"/"+w.pods[i].Name < w.pods[j].Namespace+"/"+w.pods[j].Name
		})
		nl, _ := nss.Lister().List(labels.Everything())
		for _, n := range nl {
			w.ns[n.Name] = n.Labels
		}
		w.pols, _ = pols.Lister().List(labels.Everything())
		sort.Slice(w.pols, func(i, j int) bool {
			return w.pols[i].Namespace+"/"+w.pols[i].Name < w.pols[j].Namespace+"/"+w.pols[j].Name
		})
		rs := w.compile()
		answer := func() {
			var rest []addReq
			for _, r := range waiting {
				if seen[r.Namespace+"/"+r.Name] {
					close(r.done)
				} else {
					rest = append(rest, r)
				}
			}
			waiting = rest
			if late {
				time.AfterFunc(50*time.Millisecond, poke)
			}
		}
		if rs == last {
			answer()
			continue
		}
		if *verbose {
			log.Print(rs)
		}
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader(rs)
		var eb bytes.Buffer
		c.Stderr = &eb
		if err := c.Run(); err != nil {
			log.Printf("nft: %v: %s\n%s", err, eb.String(), rs)
			time.Sleep(time.Second)
			poke()
			continue
		}
		last = rs
		answer()
		log.Printf("applied: %d pods, %d policies", len(w.pods), len(w.pols))
	}
}
