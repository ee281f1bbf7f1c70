package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/windlass-hpc/windlass/test/netload"
)

// bench is what contestants share.
type bench struct {
	o     options
	files string
	ether *netload.Ether
}

func newBench(o options) (*bench, error) {
	b := &bench{o: o, files: filepath.Join(o.work, "files")}
	if err := os.MkdirAll(b.files, 0o755); err != nil {
		return nil, err
	}
	if err := b.makeFiles(); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"netboot.yaml": windlassConfig, "nginx.conf": fmt.Sprintf(nginxConfig, o.work)} {
		if err := os.WriteFile(filepath.Join(o.work, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	var err error
	b.ether, err = netload.OpenEther(netload.NodesSide)
	return b, err
}

const windlassConfig = `
state_dir: state
log: {level: warn}
http: {listen: ":8080"}
interfaces: [{name: ` + netload.Device + `, mode: dhcp}]
subnets: [{subnet: ` + netload.Prefix + `, ranges: [` + netload.PoolFirst + `-` + netload.PoolLast + `], lease_time: 1h}]
files: files
unknown: default-group
default_group: all
groups: {all: {kernel: 1MiB}}
`

const nginxConfig = `
daemon off; worker_processes 2; pid %[1]s/nginx.pid; error_log stderr crit; user root;
events { worker_connections 4096; }
http { access_log off; sendfile on; tcp_nopush on; server { listen 8080; location /files/ { alias %[1]s/files/; } } }
`

// start starts a contestant with nothing that it knows of, and waits until it is ready; stop ends it.
func (b *bench) start(ctx context.Context, who string) (stop func() error, err error) {
	w := b.o.work
	if err := errors.Join(os.RemoveAll(filepath.Join(w, "state")), os.RemoveAll(filepath.Join(w, "dnsmasq.leases")), os.RemoveAll(filepath.Join(w, "ready"))); err != nil {
		return nil, err
	}
	args := map[string][]string{
		ours: {b.o.windlass, "netboot", "serve", "-f", filepath.Join(w, "netboot.yaml"), "--ready-file", filepath.Join(w, "ready")},
		dnsmasq: {"dnsmasq", "--keep-in-foreground", "--log-facility=-", "--quiet-dhcp", "--quiet-tftp", "--conf-file=/dev/null", "--port=0", "--interface=" + netload.Device,
			"--no-ping", "--dhcp-authoritative", "--dhcp-range=" + netload.PoolFirst + "," + netload.PoolLast + ",255.255.0.0,1h", "--dhcp-lease-max=20000",
			"--dhcp-boot=1MiB", "--dhcp-leasefile=" + filepath.Join(w, "dnsmasq.leases"), "--enable-tftp", "--tftp-root=" + b.files, "--tftp-max=1000", "--user=root", "--pid-file="},
		nginx: {"nginx", "-c", filepath.Join(w, "nginx.conf")},
	}[who]
	ready := map[string]string{dnsmasq: "TFTP root is"}[who]
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", netload.Server}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := errors.Join(waitFor(said, ready), b.appears(ctx, who)); err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go io.Copy(io.Discard, said) // ends with the contestant
	return func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil && who == ours {
			return err
		}
		return nil
	}, nil
}

// appears waits for what a contestant shows when it is ready.
func (b *bench) appears(ctx context.Context, who string) error {
	file := map[string]string{ours: "ready", nginx: "nginx.pid"}[who]
	for range 1000 {
		if _, err := os.Stat(filepath.Join(b.o.work, file)); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s is never ready", who)
}

// waitFor reads until a line has a word; no word is not waited for.
func waitFor(said io.Reader, word string) error {
	in := bufio.NewReader(said)
	var all strings.Builder
	for word != "" {
		line, err := in.ReadString('\n')
		all.WriteString(line)
		if strings.Contains(line, word) {
			break
		}
		if err != nil {
			return fmt.Errorf("it ended: %s", all.String())
		}
	}
	return nil
}
