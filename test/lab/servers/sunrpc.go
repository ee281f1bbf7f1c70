package servers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// callNull calls the procedure 0 of a program of Sun RPC (RFC 5531), which does nothing, and says by nil that the program has answered.
func callNull(ctx context.Context, at netip.AddrPort, program, version uint32) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	const xid, call, rpcVersion, procedure = 0x77696e64, 0, 2, 0
	words := []uint32{xid, call, rpcVersion, program, version, procedure, 0, 0, 0, 0} // at last, no credentials and no verifier
	frame := binary.BigEndian.AppendUint32(nil, uint32(4*len(words))|1<<31)           // the only fragment of the record
	for _, w := range words {
		frame = binary.BigEndian.AppendUint32(frame, w)
	}
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	var reply struct{ Length, XID, Direction, State, VerifierKind, VerifierLength, Accept uint32 }
	if err := binary.Read(conn, binary.BigEndian, &reply); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("call program %d version %d at %v: %w", program, version, at, err)
	}
	if reply.XID != xid || reply.Direction != 1 || reply.State != 0 || reply.Accept != 0 {
		return fmt.Errorf("call program %d version %d at %v: it was refused: %+v", program, version, at, reply)
	}
	return nil
}
