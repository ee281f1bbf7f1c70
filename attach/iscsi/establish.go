package iscsi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	maxRecv = 256 << 10 // bytes of data in a PDU from the target
	// The kernel pings a target that has been silent so long, and gives it so long to answer; in seconds.
	pingAfter, pingWait = 5, 5
	bootIDFile          = "/proc/sys/kernel/random/boot_id"
)

// join gives the connection to the session, which is made now if there is none.
func (l *link) join(ctx context.Context, conn *net.TCPConn, place login.Portal) error {
	if l.session == nil {
		if err := l.create(ctx); err != nil {
			return err
		}
	}
	return step.Do(ctx, "iscsi.bind", func(ctx context.Context) error {
		if !l.bound {
			if err := l.session.Connect(ctx); err != nil {
				return err
			}
			l.bound = true
		} else if err := l.session.Stop(ctx, netlink.Recover); err != nil {
			return err
		}
		if err := l.session.Bind(ctx, conn); err != nil {
			return fmt.Errorf("give the connection to %s to the kernel: %w", place.Address(), err)
		}
		if err := l.session.Set(ctx, iscsinl.ISCSI_PARAM_IFACE_NAME, l.driver.name(l.id)); err != nil {
			return err
		}
		return l.driver.fulfil(l.id)
	})
}

func (l *link) create(ctx context.Context) error {
	return step.Do(ctx, "iscsi.create", func(ctx context.Context) error {
		none := func() { _ = l.driver.fulfil(l.id) }
		if err := l.driver.promise(l.id, l.kernel.Creator()); err != nil {
			none()
			return err
		}
		s, err := l.kernel.Create(ctx, l.wanted.commands, l.wanted.depth, none)
		if err != nil {
			l.unsure = errors.Is(err, netlink.ErrNoAnswer)
			return err
		}
		l.session = s
		return nil
	})
}

// negotiate logs in over the kernel's connection, and has it start.
func (l *link) negotiate(ctx context.Context, auth login.Auth) error {
	var agreed login.Result
	err := step.Do(ctx, "iscsi.login", func(ctx context.Context) error {
		isid, err := l.isid()
		if err != nil {
			return err
		}
		agreed, err = login.Login(ctx, l.session, login.Config{
			Initiator: l.wanted.initiator, Target: l.wanted.target, ISID: isid, Auth: auth,
			Header: l.wanted.header, Data: l.wanted.data, MaxRecv: maxRecv,
		})
		return err
	})
	if err != nil {
		return err
	}
	return step.Do(ctx, "iscsi.start", func(ctx context.Context) error {
		if err := l.set(ctx, l.params(agreed)); err != nil {
			return err
		}
		return l.session.Start(ctx)
	})
}

// isid names the session to the target. It is the same whenever the session is logged in again, by whichever daemon, so that the target
// lets go of what was before; and no other session has it, on whatever node of the same initiator's name.
func (l *link) isid() ([6]byte, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return [6]byte{}, fmt.Errorf("tell this boot from others: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(boot, "%s %d", l.driver.name(l.id), l.session.ID))
	return login.MakeISID([5]byte(sum[:])), nil
}

// param is a parameter of a session, as the kernel takes it.
type param struct {
	key   iscsinl.IscsiParam
	value string
}

func number(n int) string { return strconv.Itoa(n) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// params are those that the kernel must know before the session starts. Secrets are none of its business.
func (l *link) params(r login.Result) []param {
	return []param{
		{iscsinl.ISCSI_PARAM_MAX_RECV_DLENGTH, number(r.MaxRecv)},
		{iscsinl.ISCSI_PARAM_MAX_XMIT_DLENGTH, number(r.MaxXmit)},
		{iscsinl.ISCSI_PARAM_HDRDGST_EN, flag(r.Header)},
		{iscsinl.ISCSI_PARAM_DATADGST_EN, flag(r.Data)},
		{iscsinl.ISCSI_PARAM_INITIAL_R2T_EN, flag(r.InitialR2T)},
		{iscsinl.ISCSI_PARAM_MAX_R2T, "1"},
		{iscsinl.ISCSI_PARAM_IMM_DATA_EN, flag(r.ImmediateData)},
		{iscsinl.ISCSI_PARAM_FIRST_BURST, number(r.FirstBurst)},
		{iscsinl.ISCSI_PARAM_MAX_BURST, number(r.MaxBurst)},
		{iscsinl.ISCSI_PARAM_PDU_INORDER_EN, "1"},
		{iscsinl.ISCSI_PARAM_DATASEQ_INORDER_EN, "1"},
		{iscsinl.ISCSI_PARAM_ERL, "0"},
		{iscsinl.ISCSI_PARAM_EXP_STATSN, strconv.FormatUint(uint64(r.ExpStatSN), 10)},
		{iscsinl.ISCSI_PARAM_TPGT, number(r.PortalGroup)},
		{iscsinl.ISCSI_PARAM_TARGET_NAME, l.wanted.target},
		{iscsinl.ISCSI_PARAM_INITIATOR_NAME, l.wanted.initiator},
		{iscsinl.ISCSI_PARAM_SESS_RECOVERY_TMO, number(l.wanted.recovery)},
		{iscsinl.ISCSI_PARAM_PING_TMO, number(pingWait)},
		{iscsinl.ISCSI_PARAM_RECV_TMO, number(pingAfter)},
	}
}

func (l *link) set(ctx context.Context, params []param) error {
	for _, p := range params {
		if err := l.session.Set(ctx, p.key, p.value); err != nil {
			return err
		}
	}
	return nil
}

// note writes down in the kernel where the session is logged in, which marks it as complete.
func (l *link) note(ctx context.Context) error {
	return l.set(ctx, []param{
		{iscsinl.ISCSI_PARAM_PERSISTENT_PORT, number(l.portal.Port)},
		{iscsinl.ISCSI_PARAM_PERSISTENT_ADDRESS, l.portal.Host},
	})
}

// soon is a context for what takes no time unless the kernel is stuck.
func soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 5*time.Second)
}
