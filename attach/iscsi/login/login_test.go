package login_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// logIn logs in at the target over a connection of its own.
func logIn(t *testing.T, address string, cfg login.Config) (login.Result, error) {
	t.Helper()
	conn, err := login.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if cfg.Initiator == "" {
		cfg.Initiator = initiator
	}
	cfg.ISID, cfg.MaxRecv = login.RandomISID(), 128<<10
	return login.Login(t.Context(), conn, cfg)
}

func wantError(t *testing.T, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v (%s)\nwant %s that says %q", err, fault.KindOf(err), kind, says)
	}
	for _, secret := range []string{password, outPassword, "wrong"} {
		if err != nil && strings.Contains(err.Error()+fault.HintOf(err), secret) {
			t.Errorf("it shows a secret: %v", err)
		}
	}
}

func TestRealTarget(t *testing.T) {
	s := startTGT(t)
	s.adm(t, "--op update --mode target --tid 1 --name HeaderDigest --value CRC32C,None")
	s.adm(t, "--op update --mode target --tid 1 --name DataDigest --value CRC32C,None")
	right := &login.Secret{User: user, Secret: password}
	out := &login.Secret{User: outUser, Secret: outPassword}
	for what, tt := range map[string]struct {
		cfg  login.Config
		kind fault.Kind // "": it works
		says string
	}{
		"no authentication":         {cfg: login.Config{Target: plain}},
		"chap where none is wanted": {cfg: login.Config{Target: plain, Auth: login.Auth{CHAP: right}}},
		"chap":                      {cfg: login.Config{Target: chapped, Auth: login.Auth{CHAP: right}}},
		"mutual chap":               {cfg: login.Config{Target: mutual, Auth: login.Auth{CHAP: right, Mutual: out}}},
		"digests":                   {cfg: login.Config{Target: plain, Header: login.CRC32C, Data: login.PreferCRC32C}},

		"wrong secret": {login.Config{Target: chapped, Auth: login.Auth{CHAP: &login.Secret{User: user, Secret: "wrongwrongwrong"}}},
			fault.Forbidden, "authentication failed"},
		"wrong user": {login.Config{Target: chapped, Auth: login.Auth{CHAP: &login.Secret{User: "bob", Secret: password}}},
			fault.Forbidden, "authentication failed"},
		"no secret": {login.Config{Target: chapped}, fault.Forbidden, "authentication failed"},
		"the target's secret is wrong": {login.Config{Target: mutual, Auth: login.Auth{CHAP: right,
			Mutual: &login.Secret{User: outUser, Secret: "wrongwrongwrong"}}}, fault.Forbidden, "the target has not proved itself"},
		"the target's name is wrong": {login.Config{Target: mutual, Auth: login.Auth{CHAP: right,
			Mutual: &login.Secret{User: "bob", Secret: outPassword}}}, fault.Forbidden, "the target has not proved itself"},
		"the target proves nothing": {login.Config{Target: chapped, Auth: login.Auth{CHAP: right, Mutual: out}}, fault.Forbidden, ""},
		"the same secret both ways": {login.Config{Target: mutual, Auth: login.Auth{CHAP: right, Mutual: right}}, fault.Invalid, "the same secret"},
		"mutual without one's own":  {login.Config{Target: mutual, Auth: login.Auth{Mutual: out}}, fault.Invalid, "without chap"},
		"unknown target":            {login.Config{Target: "iqn.2026-01.org.example:none"}, fault.NotFound, "there is no such target"},
		"an initiator not allowed":  {login.Config{Target: closed}, fault.NotFound, ""}, // tgtd hides what is not allowed
	} {
		t.Run(what, func(t *testing.T) {
			r, err := logIn(t, s.address, tt.cfg)
			if tt.kind != "" {
				wantError(t, err, tt.kind, tt.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.TSIH == 0 || r.MaxXmit < 512 || r.FirstBurst > r.MaxBurst || r.MaxRecv != 128<<10 {
				t.Errorf("agreed on %+v", r)
			}
			if want := tt.cfg.Header == login.CRC32C; r.Header != want || r.Data != want {
				t.Errorf("digests: %v, %v, want %v", r.Header, r.Data, want)
			}
		})
	}
}

func TestDiscoverRealTarget(t *testing.T) {
	s := startTGT(t)
	targets, err := login.Discover(t.Context(), s.address, initiator, login.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, target := range targets {
		names = append(names, target.Name)
		if len(target.Portals) != 1 || target.Portals[0].String() != s.address+",1" {
			t.Errorf("%s is at %v, want %s,1", target.Name, target.Portals, s.address)
		}
	}
	if want := []string{plain, chapped, mutual}; !slices.Equal(names, want) {
		t.Errorf("there are %q, want %q", names, want)
	}
}

// TestDiscoverMany has an answer that does not fit into one PDU.
func TestDiscoverMany(t *testing.T) {
	s := startTGT(t)
	const n = 150
	for i := range n {
		s.adm(t, "--op new --mode target --tid %d -T iqn.2026-01.org.example:%0180d", 100+i, i)
		s.adm(t, "--op bind --mode target --tid %d -I ALL", 100+i)
	}
	targets, err := login.Discover(t.Context(), s.address, initiator, login.Auth{})
	if err != nil || len(targets) != n+3 {
		t.Fatalf("%d targets, %v", len(targets), err)
	}
	if want := fmt.Sprintf("iqn.2026-01.org.example:%0180d", n-1); targets[n+2].Name != want {
		t.Errorf("the last is %s", targets[n+2].Name)
	}
}

func TestLUNsOfARealTarget(t *testing.T) {
	s := startTGT(t)
	luns, err := login.LUNs(t.Context(), s.address, login.Config{Initiator: initiator, Target: plain})
	if want := []int{0, 1, 3, 300}; err != nil || !slices.Equal(luns, want) {
		t.Errorf("%v, %v; want %v", luns, err, want)
	}
	_, err = login.LUNs(t.Context(), s.address, login.Config{Initiator: initiator, Target: chapped})
	wantError(t, err, fault.Forbidden, "authentication failed")
}

func TestNobodyThere(t *testing.T) {
	_, err := login.Discover(t.Context(), freePort(t), initiator, login.Auth{})
	wantError(t, err, fault.Backend, "connection refused")
	_, err = login.Discover(t.Context(), "nobody.invalid:3260", initiator, login.Auth{})
	if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "nobody.invalid") {
		t.Errorf("a name that is none: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	silent := fakeTarget(t, func(*fake) {})
	_, err = login.Discover(ctx, silent, initiator, login.Auth{})
	wantError(t, err, fault.Timeout, "the target does not answer")
}
