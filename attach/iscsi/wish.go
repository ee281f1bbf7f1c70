package iscsi

import (
	"math/bits"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// wanted is what a spec asks for, with all that is unset filled in.
type wanted struct {
	initiator, target string
	place             login.Portal
	discover          bool
	lun               int
	commands, depth   uint16
	scheduler         string
	schedulerAsked    bool
	header, data      login.Digest
	chap, mutual      *models.IscsiChap
	loginTimeout      time.Duration
	recovery          int // seconds, kernelNever
}

// wish fills in what a valid spec leaves out.
func wish(i *models.AttachIscsi) wanted {
	w := wanted{
		initiator: *i.Initiator, target: *i.Target, discover: i.Discover, lun: int(value(i.Lun)),
		place:     login.Portal{Host: bare(*i.Host), Port: int(or(i.Port, login.DefaultPort))},
		scheduler: or(value(i.Scheduler), defaultScheduler), schedulerAsked: value(i.Scheduler) != "",
		chap: i.Chap, mutual: i.MutualChap,
		loginTimeout: or(time.Duration(i.LoginTimeout)*time.Second, defaultLogin),
		recovery:     defaultRecovery,
	}
	w.header, _ = digest(i.HeaderDigest)
	w.data, _ = digest(i.DataDigest)
	// The kernel takes powers of two.
	w.commands = uint16(1) << bits.Len16(uint16(max(or(value(i.MaxComands), defaultCommands), minCommands)-1))
	w.depth = min(uint16(or(value(i.QueueDepth), defaultDepth)), w.commands-reservedCommands)
	if i.RecoveryTimeout != nil {
		if w.recovery = int(*i.RecoveryTimeout); w.recovery == 0 {
			w.recovery = kernelNever
		}
	}
	// What clients of older kernels ask for.
	switch w.scheduler {
	case "noop":
		w.scheduler = "none"
	case "deadline":
		w.scheduler = "mq-deadline"
	}
	return w
}

// auth reads the secrets.
func (d *Driver) auth(w wanted) (login.Auth, error) {
	var a login.Auth
	for _, f := range []struct {
		field string
		from  *models.IscsiChap
		to    **login.Secret
	}{{"iscsi.chap", w.chap, &a.CHAP}, {"iscsi.mutual_chap", w.mutual, &a.Mutual}} {
		if f.from == nil {
			continue
		}
		secret, err := d.cfg.Credentials.Read(source(f.from))
		if err == nil && secret == "" {
			err = fault.New(fault.Invalid, "the secret is empty")
		}
		if err == nil {
			err = checkSecret(f.field, secret)
		}
		if err != nil {
			return login.Auth{}, fault.New(fault.KindOf(err), "%s: %w", f.field, err)
		}
		*f.to = &login.Secret{User: *f.from.User, Secret: secret}
	}
	return a, nil
}

// value is what p points to, the zero value when it is nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// or is v, or what holds when v is unset.
func or[T comparable](v, unset T) T {
	var zero T
	if v == zero {
		return unset
	}
	return v
}
