//go:build ceph

package rbd

import (
	"encoding/json"
	"slices"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Monitors gives the addresses of the cluster's monitors by the first and the second version of its protocol, as HOST:PORT.
func (c *Cluster) Monitors() (v1, v2 []string, err error) {
	var dump struct {
		Mons []struct {
			Addrs struct {
				Vector []struct{ Type, Addr string } `json:"addrvec"`
			} `json:"public_addrs"`
		} `json:"mons"`
	}
	if err := c.order(map[string]any{"prefix": "mon dump", "format": "json"}, &dump); err != nil {
		return nil, nil, err
	}
	for _, m := range dump.Mons {
		for _, a := range m.Addrs.Vector {
			switch a.Type {
			case "v1":
				v1 = append(v1, a.Addr)
			case "v2":
				v2 = append(v2, a.Addr)
			}
		}
	}
	return v1, v2, nil
}

// order gives an order to the monitors and reads the answer, which is JSON, into answer unless that is nil.
func (c *Cluster) order(command map[string]any, answer any) error {
	line, err := json.Marshal(command)
	if err != nil {
		return err
	}
	out, _, err := c.conn.MonCommand(line)
	if err != nil {
		return failed(err, "ask the monitors for %q", command["prefix"])
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fault.New(fault.Backend, "ask the monitors for %q: %w", command["prefix"], err)
	}
	return nil
}

// pools gives the names of the cluster's pools, or nothing where that may not be known.
func (c *Cluster) pools() []string {
	names, err := c.conn.ListPools()
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}
