package source

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// tarBlock is the unit of a tar.
const tarBlock = 512

// Where things are in a header block, and in the sparse map of GNU tar's own format.
const (
	tarSizeAt     = 124
	tarTypeAt     = 156
	gnuMapAt      = 386
	gnuMapLen     = 4
	gnuExtLen     = 21
	gnuMoreAt     = 482
	gnuExtMoreAt  = 504
	gnuNumber     = 12
	sparseMapName = "GNU.sparse.map"
)

// sparseRuns gives where a sparse file has data, from its headers as they stand in the archive; nil, if it is not one. archive/tar has
// read them before and has found them to be right; where the two do not agree, it is nil too, and archive/tar has its way.
func sparseRuns(h *tar.Header, raw []byte) []run {
	var numbers []int64
	var ok bool
	var phys int64
	head, rest := mainHeader(raw)
	if head == nil {
		return nil
	}
	phys = number(head[tarSizeAt : tarSizeAt+gnuNumber])
	if s, found := h.PAXRecords["size"]; found {
		phys, _ = strconv.ParseInt(s, 10, 64)
	}
	switch pax := h.PAXRecords; {
	case head[tarTypeAt] == tar.TypeGNUSparse:
		numbers, ok = gnuMap(head, rest)
	case pax["GNU.sparse.major"] == "1" && pax["GNU.sparse.minor"] == "0":
		var size int
		numbers, size, ok = textMap(rest)
		phys -= int64(size)
	case pax[sparseMapName] != "":
		numbers, ok = decimals(strings.Split(pax[sparseMapName], ","))
	}
	if !ok {
		return nil
	}
	runs := makeRuns(numbers, h.Size)
	if runs == nil || total(runs) != phys {
		return nil
	}
	return runs
}

// mainHeader gives the header block of the entry itself, behind those that hold long names and PAX records.
func mainHeader(raw []byte) (head, rest []byte) {
	for len(raw) >= tarBlock {
		head, rest = raw[:tarBlock], raw[tarBlock:]
		switch head[tarTypeAt] {
		case tar.TypeXHeader, tar.TypeXGlobalHeader, tar.TypeGNULongName, tar.TypeGNULongLink:
			size := number(head[tarSizeAt : tarSizeAt+gnuNumber])
			if size < 0 || size > int64(len(rest)) {
				return nil, nil
			}
			size = (size + tarBlock - 1) &^ (tarBlock - 1)
			raw = rest[min(size, int64(len(rest))):]
		default:
			return head, rest
		}
	}
	return nil, nil
}

// gnuMap reads the map of the type S: pairs in the header and in the blocks behind it.
func gnuMap(head, rest []byte) (numbers []int64, ok bool) {
	pairs, more := head[gnuMapAt:gnuMapAt+gnuMapLen*2*gnuNumber], head[gnuMoreAt] != 0
	for {
		for ; len(pairs) >= 2*gnuNumber && pairs[0] != 0; pairs = pairs[2*gnuNumber:] {
			numbers = append(numbers, number(pairs[:gnuNumber]), number(pairs[gnuNumber:2*gnuNumber]))
		}
		if !more {
			return numbers, true
		}
		if len(rest) < tarBlock {
			return nil, false
		}
		pairs, more, rest = rest[:gnuExtLen*2*gnuNumber], rest[gnuExtMoreAt] != 0, rest[tarBlock:]
	}
}

// textMap reads the map that stands before the data: how many pairs, and the pairs, a number a line. size is what it takes.
func textMap(rest []byte) (numbers []int64, size int, ok bool) {
	all := rest
	line := func() (int64, bool) {
		text, after, found := bytes.Cut(rest, []byte("\n"))
		rest = after
		n, err := strconv.ParseInt(string(text), 10, 64)
		return n, found && err == nil
	}
	count, ok := line()
	if !ok || count < 0 || count > int64(len(rest)) {
		return nil, 0, false
	}
	for range 2 * count {
		n, ok := line()
		if !ok {
			return nil, 0, false
		}
		numbers = append(numbers, n)
	}
	used := len(all) - len(rest)
	return numbers, (used + tarBlock - 1) &^ (tarBlock - 1), true
}

func decimals(fields []string) (numbers []int64, ok bool) {
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

// makeRuns makes runs of pairs of offset and length, nil if they cannot be.
func makeRuns(numbers []int64, size int64) []run {
	runs := []run{}
	at := int64(0)
	for ; len(numbers) >= 2; numbers = numbers[2:] {
		start, n := numbers[0], numbers[1]
		if start < at || n < 0 || start > size || n > size-start {
			return nil
		}
		if at = start + n; n > 0 {
			runs = append(runs, run{start, at})
		}
	}
	if len(numbers) > 0 {
		return nil
	}
	return runs
}

// number reads a field of a header: octal digits, or for large ones the bytes of the number behind a mark. -1: it is none.
func number(field []byte) int64 {
	if field[0]&0x80 != 0 {
		if field[0] != 0x80 || binary.BigEndian.Uint32(field) != 0x80<<24 {
			return -1
		}
		return int64(binary.BigEndian.Uint64(field[len(field)-8:]))
	}
	n, err := strconv.ParseInt(strings.Trim(string(field), " \x00"), 8, 64)
	if err != nil {
		return -1
	}
	return n
}
