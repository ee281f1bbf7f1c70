package quiet

import (
	"fmt"
	"testing"
	"time"
)

func TestTheSameIsSaidOnceAMinute(t *testing.T) {
	now := time.Unix(1000, 0)
	q := New(func() time.Time { return now })
	var said []int
	say := func(more int) { said = append(said, more) }
	for range 10 {
		q.Do("a", say)
	}
	q.Do("b", say)
	now = now.Add(quietTime)
	q.Do("a", say)
	if fmt.Sprint(said) != "[0 0 9]" {
		t.Errorf("said were %v", said)
	}
}

func TestInventedKeysAreBounded(t *testing.T) {
	q := New(time.Now)
	n := 0
	for i := range 10 * maxQuiet {
		q.Do(fmt.Sprintf("server %d", i), func(int) { n++ })
	}
	if n > maxQuiet+1 || len(q.said) > maxQuiet+1 {
		t.Errorf("%d lines, %d keys", n, len(q.said))
	}
}

// After many things were said that do not come again, new ones are told apart again.
func TestOldKeysMakeRoom(t *testing.T) {
	now := time.Unix(1000, 0)
	q := New(func() time.Time { return now })
	nothing := func(int) {}
	for i := range 2 * maxQuiet {
		q.Do(fmt.Sprintf("server %d", i), nothing)
	}
	now = now.Add(quietTime / 2)
	q.Do("wire eth0", nothing) // is still remembered later
	now = now.Add(quietTime / 2)
	said := map[string]int{}
	for range 3 {
		for _, key := range []string{"server a", "server b", "wire eth0"} {
			q.Do(key, func(int) { said[key]++ })
		}
	}
	if said["server a"] != 1 || said["server b"] != 1 || len(q.said) > maxQuiet {
		t.Errorf("said were %v, remembered are %d", said, len(q.said))
	}
}
