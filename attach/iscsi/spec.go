package iscsi

import (
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Limits, and what holds for fields that are not set.
const (
	maxLUN           = 16383 // what fits the flat addressing of the kernel
	defaultCommands  = 128
	minCommands      = 32   // of the kernel's making; 15 of them are for its own use
	maxCommands      = 4096 // the kernel's limit
	reservedCommands = 15
	defaultDepth     = 16
	maxDepth         = 1024
	defaultScheduler = "mq-deadline"
	defaultLogin     = 15 * time.Second
	maxLogin         = 600
	defaultRecovery  = 120            // seconds
	maxRecovery      = 1 << 31 / 1000 // the kernel counts in ticks
	maxCHAP          = 255
	kernelNever      = -1
)

var schedulerRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,14}$`)

// Validate checks the spec alone.
func (*Driver) Validate(spec *models.Attach) error {
	if spec == nil || spec.Iscsi == nil {
		return fault.New(fault.Invalid, "iscsi is missing: kind iscsi needs it")
	}
	i := spec.Iscsi
	for _, f := range []struct {
		name  string
		value *string
	}{{"initiator", i.Initiator}, {"target", i.Target}} {
		if value(f.value) == "" {
			return fault.New(fault.Invalid, "iscsi.%s is missing: give its name, such as iqn.2026-01.org.example:name", f.name)
		}
		if err := login.CheckName(*f.value); err != nil {
			return fault.New(fault.Invalid, "iscsi.%s: %w", f.name, err)
		}
	}
	if value(i.Host) == "" {
		return fault.New(fault.Invalid, "iscsi.host is missing: give the name or address of the target's host")
	}
	if err := login.CheckHost(bare(*i.Host)); err != nil {
		err := fault.New(fault.Invalid, "iscsi.host: %w", err)
		return fault.Hintf(err, "a port goes into port; an IPv6 address may stand in brackets")
	}
	if err := checkNumbers(i); err != nil {
		return err
	}
	if s := value(i.Scheduler); s != "" && !schedulerRule.MatchString(s) {
		return fault.New(fault.Invalid, "iscsi.scheduler %q is no name of an I/O scheduler, such as mq-deadline or none", s)
	}
	for _, f := range []struct {
		name  string
		value models.IscsiDigest
	}{{"header_digest", i.HeaderDigest}, {"data_digest", i.DataDigest}} {
		if _, ok := digest(f.value); !ok {
			return fault.New(fault.Invalid, "iscsi.%s %q is neither none nor crc32c nor prefer-crc32c", f.name, f.value)
		}
	}
	if i.MutualChap != nil && i.Chap == nil {
		return fault.New(fault.Invalid, "iscsi.mutual_chap is given without iscsi.chap: the target proves itself only to those who do so too")
	}
	if err := checkCHAP("iscsi.chap", i.Chap); err != nil {
		return err
	}
	if err := checkCHAP("iscsi.mutual_chap", i.MutualChap); err != nil {
		return err
	}
	if i.MutualChap != nil && i.Chap.Secret != "" && i.Chap.Secret == i.MutualChap.Secret {
		return fault.New(fault.Invalid, "iscsi.chap and iscsi.mutual_chap have the same secret: whoever listens could use one proof for the other")
	}
	return nil
}

func checkNumbers(i *models.AttachIscsi) error {
	for _, f := range []struct {
		name      string
		value     int64
		low, high int64
	}{
		{"lun", value(i.Lun), 0, maxLUN},
		{"port", i.Port, 0, 65535}, // 0 is unset here and below
		{"max_comands", value(i.MaxComands), 0, maxCommands},
		{"queue_depth", value(i.QueueDepth), 0, maxDepth},
		{"login_timeout", i.LoginTimeout, 0, maxLogin},
		{"recovery_timeout", value(i.RecoveryTimeout), 0, maxRecovery},
	} {
		if f.value < f.low || f.value > f.high {
			return fault.New(fault.Invalid, "iscsi.%s %d is not between %d and %d", f.name, f.value, f.low, f.high)
		}
	}
	return nil
}

func checkCHAP(field string, c *models.IscsiChap) error {
	if c == nil {
		return nil
	}
	user := value(c.User)
	if user == "" || len(user) > maxCHAP || strings.ContainsRune(user, 0) {
		return fault.New(fault.Invalid, "%s.user must have 1 to %d bytes, none of them zero", field, maxCHAP)
	}
	if c.Secret == "" && c.SecretFile == "" && c.Credential == "" {
		return fault.New(fault.Invalid, "%s has no secret: give secret, secret_file or credential", field)
	}
	if err := source(c).Validate(field); err != nil {
		return err
	}
	return checkSecret(field, c.Secret)
}

// checkSecret checks a secret, wherever it comes from; "" is not checked.
func checkSecret(field, secret string) error {
	if len(secret) > maxCHAP || strings.ContainsAny(secret, "\x00\n\r") {
		return fault.New(fault.Invalid, "the secret of %s must be one line of %d bytes at most", field, maxCHAP)
	}
	return nil
}

func source(c *models.IscsiChap) credential.Source {
	return credential.Source{Secret: c.Secret, File: c.SecretFile, Name: c.Credential}
}

// bare takes the brackets off an IPv6 address.
func bare(host string) string {
	inner, ok := strings.CutPrefix(host, "[")
	if inner, closed := strings.CutSuffix(inner, "]"); ok && closed {
		if a, err := netip.ParseAddr(inner); err == nil && a.Is6() {
			return inner
		}
	}
	return host
}

func digest(d models.IscsiDigest) (login.Digest, bool) {
	switch d {
	case "", models.IscsiDigestNone:
		return login.NoDigest, true
	case models.IscsiDigestCrc32c:
		return login.CRC32C, true
	case models.IscsiDigestPreferDashCrc32c:
		return login.PreferCRC32C, true
	}
	return login.NoDigest, false
}
