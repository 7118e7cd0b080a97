module kubeop.io/testcluster/images

go 1.26
