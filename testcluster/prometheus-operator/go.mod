// The definitions of the Prometheus operator (example/prometheus-operator-crd), for the test that applies the chart's ServiceMonitors. Nothing is built;
// another version: edit it and run `go mod download github.com/prometheus-operator/prometheus-operator` (`go mod tidy` would drop it).
module kubeop.io/testcluster/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0 // indirect
