package login

import (
	"encoding/binary"
	"fmt"
	"io"
)

// HeaderLen is the length of a basic header segment, in bytes.
const HeaderLen = 48

// Opcode says what a PDU is (RFC 7143, 11.2.1.2).
type Opcode byte

// The opcodes that are used here.
const (
	OpNopOut         Opcode = 0x00
	OpSCSICommand    Opcode = 0x01
	OpLoginRequest   Opcode = 0x03
	OpTextRequest    Opcode = 0x04
	OpLogoutRequest  Opcode = 0x06
	OpNopIn          Opcode = 0x20
	OpSCSIResponse   Opcode = 0x21
	OpLoginResponse  Opcode = 0x23
	OpTextResponse   Opcode = 0x24
	OpDataIn         Opcode = 0x25
	OpLogoutResponse Opcode = 0x26
	OpAsync          Opcode = 0x32
	OpReject         Opcode = 0x3f
)

const (
	immediate   = 0x40 // beside the opcode
	flagFinal   = 0x80 // last of a sequence; in a login, ready for the next stage
	flagMore    = 0x40 // the text goes on in the next PDU
	reservedTag = 0xffffffff
	maxAHS      = 255 * 4   // bytes of additional headers, by the width of the field
	maxData     = 1<<24 - 1 // bytes of data, by the width of the field
	maxReceived = 256 << 10 // bytes of data that are taken in; no target may send more than was declared to it
	declared    = 64 << 10  // bytes of data that we tell a target to send at most where we read ourselves
	loginData   = 8 << 10   // bytes of data in a PDU of a login, by the standard
)

// PDU is a protocol data unit without additional headers, padding and digests. Header's length of the data is set by those that send it.
type PDU struct {
	Header [HeaderLen]byte
	Data   []byte
}

// Opcode gives the opcode.
func (p *PDU) Opcode() Opcode { return Opcode(p.Header[0] & 0x3f) }

func (p *PDU) be32(at int) uint32       { return binary.BigEndian.Uint32(p.Header[at:]) }
func (p *PDU) setBE32(at int, v uint32) { binary.BigEndian.PutUint32(p.Header[at:], v) }

// SetLength writes the length of the data into the header.
func (p *PDU) SetLength() {
	n := len(p.Data)
	p.Header[4] = 0
	p.Header[5], p.Header[6], p.Header[7] = byte(n>>16), byte(n>>8), byte(n)
}

// ParsePDU takes a PDU from bytes that begin with its header, as the kernel hands it over: additional headers left out, data not padded
// as a rule. It copies nothing.
func ParsePDU(b []byte) (PDU, error) {
	if len(b) < HeaderLen {
		return PDU{}, fmt.Errorf("%d bytes are less than a header", len(b))
	}
	p := PDU{Header: [HeaderLen]byte(b)}
	n := p.dataLen()
	if n > len(b)-HeaderLen {
		return PDU{}, fmt.Errorf("a PDU says that it has %d bytes of data, and has %d", n, len(b)-HeaderLen)
	}
	p.Data = b[HeaderLen : HeaderLen+n]
	return p, nil
}

func (p *PDU) dataLen() int {
	return int(p.Header[5])<<16 | int(p.Header[6])<<8 | int(p.Header[7])
}

// readPDU reads one PDU of a connection without digests. What is announced is not believed beyond maxReceived.
func readPDU(r io.Reader) (PDU, error) {
	var p PDU
	if _, err := io.ReadFull(r, p.Header[:]); err != nil {
		return PDU{}, err
	}
	if n := int64(p.Header[4]) * 4; n > 0 {
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return PDU{}, err
		}
	}
	n := p.dataLen()
	if n > maxReceived {
		return PDU{}, fmt.Errorf("the target sends a PDU of %d bytes, %d were allowed", n, declared)
	}
	p.Data = make([]byte, n)
	if _, err := io.ReadFull(r, p.Data); err != nil {
		return PDU{}, err
	}
	var pad [3]byte
	if _, err := io.ReadFull(r, pad[:-n&3]); err != nil {
		return PDU{}, err
	}
	return p, nil
}

// writePDU writes one PDU, padded, in one write.
func writePDU(w io.Writer, p PDU) error {
	if len(p.Data) > maxData {
		return fmt.Errorf("a PDU of %d bytes cannot be sent", len(p.Data))
	}
	p.SetLength()
	b := make([]byte, 0, HeaderLen+len(p.Data)+3)
	b = append(append(b, p.Header[:]...), p.Data...)
	b = append(b, make([]byte, -len(p.Data)&3)...)
	_, err := w.Write(b)
	return err
}
