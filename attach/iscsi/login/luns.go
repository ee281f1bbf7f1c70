package login

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	reportLUNs  = 0xa0
	reportLen   = 16 << 10 // bytes of answer that are asked for, some two thousand LUNs
	lunEntry    = 8        // bytes
	flagRead    = 0x40     // of a command: data comes back
	simpleQueue = 1        // task attribute
	statusInit  = 0x01     // of a Data-In: the status of the command comes with it
)

// LUNs asks the target at address what logical units it has, in a session of its own with an ISID of its own (cfg.ISID is not used, nor
// are its digests). They come in order; those of forms that nobody uses are left out.
func LUNs(ctx context.Context, address string, cfg Config) ([]int, error) {
	cfg.ISID = RandomISID()
	s, err := open(ctx, address, cfg)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its LUNs: %w", cfg.Target, err)
	}
	defer s.conn.Close()
	data, err := s.reportLUNs(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its LUNs: %w", cfg.Target, err)
	}
	s.logout(ctx)
	return parseLUNs(data), nil
}

func (s *session) reportLUNs(ctx context.Context) ([]byte, error) {
	s.tag++
	var p PDU
	p.Header[0], p.Header[1] = byte(OpSCSICommand), flagFinal|flagRead|simpleQueue
	p.setBE32(16, s.tag)
	p.setBE32(20, reportLen)
	p.setBE32(24, s.cmdSN)
	p.setBE32(28, s.expStatSN)
	p.Header[32] = reportLUNs
	p.setBE32(38, reportLen)
	s.cmdSN++
	if err := s.conn.Send(ctx, p); err != nil {
		return nil, err
	}
	data := make([]byte, reportLen)
	end := 0
	for {
		a, err := s.receive(ctx)
		if err != nil {
			return nil, err
		}
		status := a.Header[3]
		switch a.Opcode() {
		case OpDataIn:
			at := int64(a.be32(40))
			if at+int64(len(a.Data)) > reportLen {
				return nil, fault.New(fault.Backend, "the target sends more data than was asked for")
			}
			copy(data[at:], a.Data)
			end = max(end, int(at)+len(a.Data))
			if a.Header[1]&statusInit == 0 {
				continue
			}
		case OpSCSIResponse:
			if a.Header[2] != 0 {
				return nil, fault.New(fault.Backend, "the target cannot carry out the command (response %#02x)", a.Header[2])
			}
		default:
			return nil, fault.New(fault.Backend, "the target answers a command with a PDU %#02x", byte(a.Opcode()))
		}
		s.expStatSN = a.be32(24) + 1
		if status != 0 {
			return nil, fault.New(fault.Backend, "the target ends the command with the SCSI status %#02x", status)
		}
		return data[:end], nil
	}
}

// parseLUNs reads the answer to REPORT LUNS (SPC-4, 6.33). Only the first level of addressing counts, as for the kernel.
func parseLUNs(data []byte) []int {
	const head = 8
	if len(data) < head {
		return nil
	}
	n := min(int64(binary.BigEndian.Uint32(data)), int64(len(data)-head))
	var all []int
	for entry := range slices.Chunk(data[head:head+n], lunEntry) {
		if len(entry) < lunEntry {
			break
		}
		switch v := int(binary.BigEndian.Uint16(entry)); v >> 14 {
		case 0, 1: // peripheral, flat
			all = append(all, v&0x3fff)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
