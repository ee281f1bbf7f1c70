// Package control is how test programs in a guest of test/lab reach the servers' side: they run programs there, put files, and stop, kill and
// start the servers.
//
// Server is the side of the servers, an HTTP handler without authentication: it is for a network that nobody else is in. Client is the side of
// the tests; its methods end the test when something fails. Requests:
//
//	POST /run?name=rbd&arg=ls&arg=-l    body: standard input; answer: Result; with cluster=NAME for another than the first
//	POST /signal?server=osd&signal=STOP
//	POST /start?server=osd
//	PUT, GET /file?path=images/a        relative to the lab's directory
//	POST /cluster?name=three            answer: Cluster, once it runs
//	POST /target                        body: Target
//	DELETE /target?iqn=…
//	GET /info                           Info
package control

// Result is how a program ended on the servers' side.
type Result struct {
	Code           int
	Stdout, Stderr []byte
}

// Info says what the lab has.
type Info struct {
	Dir     string // the lab's directory on the servers' side, where programs run
	Exports string // the directory on the servers' side that holds what the NFS server exports: export, readonly, squash
}

// Cluster says where a cluster of Ceph is found: its monitors, by the old protocol and the new one.
type Cluster struct {
	FSID   string
	V1, V2 []string
}
