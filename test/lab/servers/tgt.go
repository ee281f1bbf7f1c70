package servers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// TGTConfig says what target server to start.
type TGTConfig struct {
	Dir     string           // a short path; it is made
	Portals []netip.AddrPort // port 0 is 3260
}

// Account is a name with its secret.
type Account struct{ User, Password string }

// LUN is a logical unit of a target.
type LUN struct {
	Number   int // from 1: 0 is the target's controller
	File     string
	ReadOnly bool
	ID       string // SCSI ID, of which udev makes names; "" is one of tgt's
}

// Target is a target with what it asks of those who log in.
type Target struct {
	IQN  string
	LUNs []LUN
	// CHAP is whom the target lets in; none is everybody. Mutual is what the target shows to them.
	CHAP   []Account
	Mutual *Account
	// Params are of the target's negotiation, such as HeaderDigest: "CRC32C".
	Params map[string]string
}

// TGT is a running tgtd. What it was told it is told again when it is started again, before it can be reached.
// Its methods may be called at the same time.
type TGT struct {
	cfg  TGTConfig
	tgtd *process

	mu      sync.Mutex // of all below, and held while tgtd is started and told
	targets []Target
	orders  [][]string
}

// StartTGT starts a target server and answers when it can be reached.
func StartTGT(ctx context.Context, cfg TGTConfig, targets ...Target) (_ *TGT, err error) {
	if err := makeDir(cfg.Dir); err != nil {
		return nil, err
	}
	for i, p := range cfg.Portals {
		if p.Port() == 0 {
			cfg.Portals[i] = netip.AddrPortFrom(p.Addr(), 3260)
		}
	}
	// Its portals come last, by order, so that nobody finds it without its targets. Without this one it would listen on all addresses at once.
	t := &TGT{cfg: cfg, tgtd: newProcess(cfg.Dir, "tgtd", "tgtd", "-f", "-t", "1", "--iscsi", "portal=127.0.0.1:0")}
	t.tgtd.env = t.env()
	defer func() {
		if err != nil {
			err = fmt.Errorf("start tgtd in %s: %w", cfg.Dir, errors.Join(err, t.Stop()))
		}
	}()
	for _, target := range targets {
		t.plan(target)
	}
	if err := t.Start(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Start starts tgtd when it has ended, with all its targets.
func (t *TGT) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.tgtd.start(); err != nil {
		return err
	}
	ask := func(ctx context.Context) error { _, err := t.Admin(ctx, "--op", "show", "--mode", "sys"); return err }
	if err := t.tgtd.until(ctx, "answers tgtadm", ask); err != nil {
		return err
	}
	for _, order := range t.orders {
		if _, err := t.Admin(ctx, order...); err != nil {
			return fmt.Errorf("%w%s", err, t.tgtd.tail())
		}
	}
	for _, p := range t.cfg.Portals {
		if _, err := t.Admin(ctx, "--mode", "portal", "--op", "new", "--param", "portal="+p.String()); err != nil {
			return fmt.Errorf("%w%s", err, t.tgtd.tail())
		}
	}
	return nil
}

// Add adds a target to the server that runs.
func (t *TGT) Add(ctx context.Context, target Target) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, order := range t.plan(target) {
		if _, err := t.Admin(ctx, order...); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a target, also one that is in use: its connections end.
func (t *TGT) Remove(ctx context.Context, iqn string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.targets, func(x Target) bool { return x.IQN == iqn })
	if i < 0 {
		return fmt.Errorf("tgtd in %s has no target %s", t.cfg.Dir, iqn)
	}
	tid := strconv.Itoa(i + 1)
	if _, err := t.Admin(ctx, "--mode", "target", "--op", "delete", "--force", "--tid", tid); err != nil {
		return err
	}
	t.targets[i].IQN = ""
	t.orders = slices.DeleteFunc(t.orders, func(order []string) bool {
		at := slices.Index(order, "--tid")
		return at >= 0 && order[at+1] == tid
	})
	return nil
}

// plan notes the orders that make a target, and gives them.
func (t *TGT) plan(target Target) [][]string {
	t.targets = append(t.targets, target)
	tid := strconv.Itoa(len(t.targets))
	orders := [][]string{{"--mode", "target", "--op", "new", "--tid", tid, "--targetname", target.IQN}}
	for _, l := range target.LUNs {
		unit := []string{"--mode", "logicalunit", "--tid", tid, "--lun", strconv.Itoa(l.Number)}
		orders = append(orders, append(slices.Clone(unit), "--op", "new", "--backing-store", l.File, "--bstype", "rdwr"))
		if l.ReadOnly {
			orders = append(orders, append(slices.Clone(unit), "--op", "update", "--params", "readonly=1"))
		}
		if l.ID != "" {
			orders = append(orders, append(slices.Clone(unit), "--op", "update", "--params", "scsi_id="+l.ID))
		}
	}
	for name, value := range target.Params {
		orders = append(orders, []string{"--mode", "target", "--op", "update", "--tid", tid, "--name", name, "--value", value})
	}
	for _, a := range target.CHAP {
		orders = append(orders, t.account(a)...)
		orders = append(orders, []string{"--mode", "account", "--op", "bind", "--tid", tid, "--user", a.User})
	}
	if m := target.Mutual; m != nil {
		orders = append(orders, t.account(*m)...)
		orders = append(orders, []string{"--mode", "account", "--op", "bind", "--tid", tid, "--user", m.User, "--outgoing"})
	}
	orders = append(orders, []string{"--mode", "target", "--op", "bind", "--tid", tid, "--initiator-address", "ALL"})
	t.orders = append(t.orders, orders...)
	return orders
}

// account gives the order that makes an account, when there is none of its name yet: accounts belong to the server.
func (t *TGT) account(a Account) [][]string {
	order := []string{"--mode", "account", "--op", "new", "--user", a.User, "--password", a.Password}
	for _, o := range t.orders {
		if slices.Equal(o, order) {
			return nil
		}
	}
	return [][]string{order}
}

// Admin runs tgtadm on this server and gives its output.
func (t *TGT) Admin(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, t.env(), nil, "tgtadm", append([]string{"--lld", "iscsi"}, args...)...)
	return string(out), err
}

// Portals gives the addresses that it listens on.
func (t *TGT) Portals() []netip.AddrPort { return slices.Clone(t.cfg.Portals) }

// Signal sends a signal to tgtd and waits until it has worked: SIGSTOP, SIGCONT, SIGTERM or SIGKILL.
func (t *TGT) Signal(ctx context.Context, sig syscall.Signal) error { return t.tgtd.signal(ctx, sig) }

// Stop ends tgtd. It may be called again.
func (t *TGT) Stop() error { return t.tgtd.end(context.Background(), unix.SIGKILL) }

func (t *TGT) env() []string {
	return []string{"TGT_IPC_SOCKET=" + filepath.Join(t.cfg.Dir, "tgtd.ipc")}
}

// Sessions gives how many initiators are logged in to a target.
func (t *TGT) Sessions(ctx context.Context, iqn string) (int, error) {
	out, err := t.Admin(ctx, "--op", "show", "--mode", "target")
	if err != nil {
		return 0, err
	}
	n, ours := 0, false
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "Target ") {
			ours = strings.HasSuffix(line, ": "+iqn)
		}
		if ours && strings.HasPrefix(strings.TrimSpace(line), "I_T nexus:") {
			n++
		}
	}
	return n, nil
}
