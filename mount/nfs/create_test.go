package nfs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
)

// named is a driver for which every name has these addresses.
func named(t *testing.T, err error, addrs ...string) *Driver {
	t.Helper()
	d := New(Config{Helper: helper.New(helpertest.Shim(t)), MountTimeout: 20 * time.Second})
	t.Cleanup(func() { d.Close() })
	d.lookup = func(context.Context, string) ([]netip.Addr, error) {
		var all []netip.Addr
		for _, a := range addrs {
			all = append(all, netip.MustParseAddr(a))
		}
		return all, err
	}
	return d
}

// freePort is a port at which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestAllAddressesAreTried(t *testing.T) {
	d, port := named(t, nil, "127.0.0.2", "::1", "127.0.0.3", "127.0.0.2"), freePort(t)
	for proto, tried := range map[string][]string{
		"":           {"127.0.0.2:" + port, "[::1]:" + port, "127.0.0.3:" + port},
		"proto=tcp":  {"127.0.0.2:" + port, "127.0.0.3:" + port},
		"proto=tcp6": {"[::1]:" + port},
	} {
		options := []string{"port=" + port}
		if proto != "" {
			options = append(options, proto)
		}
		r, err := parse(spec("storage.example.org", "/images", "4.2", options...))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = d.create(t.Context(), r)
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, unix.ECONNREFUSED) || strings.Count(err.Error(), ":"+port) != len(tried) {
			t.Errorf("%s: %v (%s)", proto, err, fault.KindOf(err))
		}
		at := 0
		for _, a := range tried { // each once, in their order
			n := strings.Index(err.Error()[at:], a)
			if n < 0 {
				t.Fatalf("%s: %s is not in %v", proto, a, err)
			}
			at += n
		}
		if !strings.Contains(err.Error(), "storage.example.org:/images by NFS 4.2") || fault.HintOf(err) == "" {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
	}
}

func TestNames(t *testing.T) {
	notFound := &net.DNSError{Err: "no such host", Name: "storage", IsNotFound: true}
	for what, c := range map[string]struct {
		err  error
		addr []string
		kind fault.Kind
		says string
	}{
		"not known":          {notFound, nil, fault.NotFound, "the name storage is not known"},
		"no resolver":        {&net.DNSError{Err: "connection refused", Name: "storage"}, nil, fault.Unavailable, "the address of storage cannot be found"},
		"of the wrong kind":  {nil, []string{"::1"}, fault.NotFound, "no address that can be used with proto=tcp: it has [::1]"},
		"of no use":          {nil, []string{"0.0.0.0", "224.0.0.1"}, fault.NotFound, "no address that can be used"},
		"nothing but a name": {nil, nil, fault.NotFound, "no address that can be used"},
	} {
		t.Run(what, func(t *testing.T) {
			r, err := parse(spec("storage", "/x", "", "tcp"))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = named(t, c.err, c.addr...).create(t.Context(), r)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%s)", err, fault.KindOf(err))
			}
		})
	}
}

// TestAServerThatTakesNoConnection has all the time for its one address, and says which it was.
func TestAServerThatTakesNoConnection(t *testing.T) {
	d := named(t, nil)
	d.cfg.MountTimeout = 300 * time.Millisecond
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(name.(*unix.SockaddrInet4).Port)
	for { // fill its queue
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
	}
	r, err := parse(spec("127.0.0.1", "/x", "4.1", "port="+port))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, _, err = d.create(t.Context(), r)
	if took := time.Since(began); !fault.Is(err, fault.Timeout) || !strings.Contains(err.Error(), "no answer from 127.0.0.1:"+port+" in ") || took < 250*time.Millisecond || took > 10*time.Second {
		t.Errorf("%v (%s)", err, fault.KindOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = d.create(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestLocal(t *testing.T) {
	for server, want := range map[string]string{"127.0.0.1": "127.0.0.1", "::1": "::1"} {
		if got, err := local(netip.MustParseAddr(server)); err != nil || got.String() != want {
			t.Errorf("to %s: %v, %v", server, got, err)
		}
	}
	if _, err := local(netip.MustParseAddr("fe80::1%nosuchlink")); err == nil {
		t.Error("there is a way by an interface that there is not")
	}
}

func TestExplain(t *testing.T) {
	answer := func(op string, errno unix.Errno) error {
		return fault.New(fault.Internal, "%w", &fsmount.Error{FSType: "nfs4", Source: "s:/x", Op: op, Option: "xprtsec=tls", Errno: errno})
	}
	created := func(errno unix.Errno) error { return answer(fsmount.OpCreate, errno) }
	r, err := parse(spec("storage", "/x", "3"))
	if err != nil {
		t.Fatal(err)
	}
	four, err := parse(spec("storage", "/x", "4.2", "sec=krb5", "port=99"))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("10.0.0.1")
	for what, c := range map[string]struct {
		a          attempt
		err        error
		kind       fault.Kind
		says, hint string
	}{
		"no NFS in the kernel": {attempt{four, addr, "4.2"}, answer(fsmount.OpOpen, unix.ENODEV), fault.Unsupported, "by NFS 4.2", "modprobe nfsv4"},
		"no version in the kernel": {attempt{r, addr, "3"}, created(unix.EPROTONOSUPPORT), fault.Unsupported,
			"this kernel does not have that version", "modprobe nfsv3"},
		"no export, 3":     {attempt{r, addr, "3"}, created(unix.ENOENT), fault.NotFound, "mount storage:/x by NFS 3: 10.0.0.1 has no such export: no such file", "where the directory lies"},
		"no export, 4":     {attempt{four, addr, "4.2"}, created(unix.ENOENT), fault.NotFound, "10.0.0.1 has no such export", "root of what the server exports"},
		"not allowed":      {attempt{four, addr, "4.2"}, created(unix.EACCES), fault.Forbidden, "10.0.0.1 does not let this node have it", "noresvport"},
		"refused":          {attempt{four, addr, "4.2"}, created(unix.ECONNREFUSED), fault.Unavailable, "nothing can be reached at 10.0.0.1:99: connection refused", "port=N"},
		"no route":         {attempt{r, addr, "3"}, &net.OpError{Op: "dial", Err: unix.EHOSTUNREACH}, fault.Unavailable, "nothing can be reached at 10.0.0.1:111: no route", ""},
		"3 behind rpcbind": {attempt{r, addr, "3"}, created(unix.ETIMEDOUT), fault.Timeout, "no answer from 10.0.0.1 in 1.5 s", ""},
		"the kernel waits": {attempt{four, addr, "4.2"}, created(unix.ETIMEDOUT), fault.Timeout, "no answer from 10.0.0.1:99 in 1.5 s", "sec=krb5 also needs rpc.gssd"},
		"a file":           {attempt{r, addr, "3"}, created(unix.ENOTDIR), fault.Invalid, "it is no directory", ""},
		"an old handle":    {attempt{r, addr, "3"}, created(unix.ESTALE), fault.Backend, "answered badly: stale", ""},
		"a stuck helper": {attempt{r, addr, "3"}, fault.New(fault.Timeout, "%w", &helper.Stuck{What: "mount nfs", After: time.Second, Where: "rpc_wait"}),
			fault.Timeout, "stuck: mount nfs has not come back in 1s (waits in rpc_wait)", ""},
	} {
		t.Run(what, func(t *testing.T) {
			err := c.a.explain(c.err, 1500*time.Millisecond)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.Contains(fault.HintOf(err), c.hint) || !errors.Is(err, c.err) && fault.Is(err, fault.Internal) {
				t.Errorf("%v (%s) (%s)", err, fault.KindOf(err), fault.HintOf(err))
			}
		})
	}
	refused := answer(fsmount.OpOption, unix.EINVAL)
	if err := (attempt{four, addr, "4.2"}).explain(refused, 0); err != refused {
		t.Errorf("an option that the kernel does not know: %v", err)
	}
}

func TestTogether(t *testing.T) {
	down, denied := fault.New(fault.Unavailable, "one is down"), fault.Hintf(fault.New(fault.Forbidden, "two denies"), "ask")
	if err := together([]error{down, denied}); !fault.Is(err, fault.Forbidden) || err.Error() != "two denies; one is down" || fault.HintOf(err) != "ask" {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
	if err := together([]error{down}); err != down {
		t.Error(err)
	}
}
