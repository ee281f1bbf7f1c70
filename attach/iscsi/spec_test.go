package iscsi

import (
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func ptr[T any](v T) *T { return &v }

// valid is a spec with what is required alone.
func valid() *models.AttachIscsi {
	return &models.AttachIscsi{Initiator: ptr("iqn.2026-01.org.example:node1"), Target: ptr("iqn.2026-01.org.example:disk"), Host: ptr("192.0.2.10")}
}

func TestValidate(t *testing.T) {
	const secret = "secretsecret12"
	chap := func(change func(*models.IscsiChap)) *models.IscsiChap {
		c := &models.IscsiChap{User: ptr("alice"), Secret: secret}
		change(c)
		return c
	}
	type i = *models.AttachIscsi
	for what, tt := range map[string]struct {
		change func(i)
		says   string // "": it is valid
	}{
		"what is required":         {func(i) {}, ""},
		"IPv6":                     {func(i i) { i.Host = ptr("fd99::1") }, ""},
		"IPv6 in brackets":         {func(i i) { i.Host = ptr("[fd99::1]") }, ""},
		"a name":                   {func(i i) { i.Host = ptr("storage.example.org") }, ""},
		"the highest LUN":          {func(i i) { i.Lun = ptr(int64(16383)) }, ""},
		"chap":                     {func(i i) { i.Chap = chap(func(*models.IscsiChap) {}) }, ""},
		"no target":                {func(i i) { i.Target = nil }, "iscsi.target is missing"},
		"an empty initiator":       {func(i i) { i.Initiator = ptr("") }, "iscsi.initiator is missing"},
		"a target with a comma":    {func(i i) { i.Target = ptr("iqn.2026-01.org.example:a,b") }, "iscsi.target"},
		"no host":                  {func(i i) { i.Host = nil }, "iscsi.host is missing"},
		"a host with a port":       {func(i i) { i.Host = ptr("192.0.2.10:3260") }, "iscsi.host"},
		"a host with a blank":      {func(i i) { i.Host = ptr("a b") }, "iscsi.host"},
		"IPv4 in brackets":         {func(i i) { i.Host = ptr("[192.0.2.10]") }, "iscsi.host"},
		"a LUN too high":           {func(i i) { i.Lun = ptr(int64(16384)) }, "iscsi.lun 16384"},
		"a negative LUN":           {func(i i) { i.Lun = ptr(int64(-1)) }, "iscsi.lun"},
		"a port too high":          {func(i i) { i.Port = 65536 }, "iscsi.port"},
		"too many commands":        {func(i i) { i.MaxComands = ptr(int64(4097)) }, "iscsi.max_comands"},
		"a queue too deep":         {func(i i) { i.QueueDepth = ptr(int64(1025)) }, "iscsi.queue_depth"},
		"a scheduler with a path":  {func(i i) { i.Scheduler = ptr("../none") }, "iscsi.scheduler"},
		"a digest nobody knows":    {func(i i) { i.DataDigest = "sha256" }, "iscsi.data_digest"},
		"a login that never ends":  {func(i i) { i.LoginTimeout = 601 }, "iscsi.login_timeout"},
		"a recovery before it":     {func(i i) { i.RecoveryTimeout = ptr(int64(-1)) }, "iscsi.recovery_timeout"},
		"chap without a user":      {func(i i) { i.Chap = chap(func(c *models.IscsiChap) { c.User = nil }) }, "iscsi.chap.user"},
		"chap without a secret":    {func(i i) { i.Chap = chap(func(c *models.IscsiChap) { c.Secret = "" }) }, "iscsi.chap has no secret"},
		"chap with two secrets":    {func(i i) { i.Chap = chap(func(c *models.IscsiChap) { c.Credential = "a" }) }, "only one of"},
		"a secret of two lines":    {func(i i) { i.Chap = chap(func(c *models.IscsiChap) { c.Secret += "\n" }) }, "one line"},
		"a secret too long":        {func(i i) { i.Chap = chap(func(c *models.IscsiChap) { c.Secret = strings.Repeat(secret, 20) }) }, "255"},
		"mutual chap alone":        {func(i i) { i.MutualChap = chap(func(*models.IscsiChap) {}) }, "without iscsi.chap"},
		"the same secret two ways": {func(i i) { i.Chap = chap(func(*models.IscsiChap) {}); i.MutualChap = i.Chap }, "the same secret"},
	} {
		t.Run(what, func(t *testing.T) {
			part := valid()
			tt.change(part)
			err := New(Config{}).Validate(&models.Attach{Kind: models.AttachKindIscsi, Iscsi: part})
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want invalid that says %q", err, tt.says)
			}
		})
	}
}

func TestWish(t *testing.T) {
	w := wish(valid())
	want := wanted{
		initiator: "iqn.2026-01.org.example:node1", target: "iqn.2026-01.org.example:disk", place: login.Portal{Host: "192.0.2.10", Port: 3260},
		commands: 128, depth: 16, scheduler: "mq-deadline", loginTimeout: 15 * time.Second, recovery: 120,
	}
	if w != want {
		t.Errorf("%+v\nwant %+v", w, want)
	}
	part := valid()
	part.Host, part.Port = ptr("[fd99::1]"), 860
	part.MaxComands, part.QueueDepth, part.Scheduler = ptr(int64(33)), ptr(int64(500)), ptr("noop")
	part.RecoveryTimeout = ptr(int64(0))
	w = wish(part)
	if w.place.Address() != "[fd99::1]:860" || w.commands != 64 || w.depth != 64-15 || w.scheduler != "none" || w.recovery != -1 {
		t.Errorf("%+v", w)
	}
	for n, want := range map[int64]uint16{1: 32, 32: 32, 64: 64, 65: 128, 4096: 4096} {
		part.MaxComands = ptr(n)
		if got := wish(part).commands; got != want {
			t.Errorf("%d commands are %d, want %d", n, got, want)
		}
	}
}
