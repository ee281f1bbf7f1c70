package cmdline

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// complete fills in what follows from the rest, and refuses what does not go together.
func (l *Link) complete() error {
	if l.Method == "" {
		l.Method = Auto
		if len(l.Addresses) > 0 {
			l.Method = Static
		}
	}
	if l.Method == Static && len(l.Addresses) == 0 {
		return errors.New("static needs an address with its prefix, such as 10.1.2.3/24")
	}
	if len(l.Addresses) > 0 && l.anyDevice() {
		return errors.New("an address needs a device: its name or MAC address")
	}
	if err := l.completeVLAN(); err != nil {
		return err
	}
	if len(l.Bond) == 0 && (l.BondMode != "" || l.Miimon != 0) {
		return errors.New("mode and miimon are for a bond: add bond=DEVICE+DEVICE")
	}
	return l.completeBond()
}

// completeBond has its devices named as the kernel says their names and addresses.
func (l *Link) completeBond() error {
	if len(l.Bond) == 0 {
		return nil
	}
	if l.Device == "" {
		return errors.New("a bond needs a name: bond0,dhcp,bond=eth0+eth1")
	}
	for i, v := range l.Bond {
		mac, err := net.ParseMAC(v)
		if err == nil {
			l.Bond[i] = mac.String()
		} else if !deviceName.MatchString(v) {
			return fmt.Errorf("bond: %.40q is neither the name of a device nor its MAC address", v)
		}
	}
	if l.BondMode == "" {
		l.BondMode = "active-backup"
	}
	if l.Miimon == 0 {
		l.Miimon = 100
	}
	return nil
}

// completeVLAN understands the name eth0.100 as the VLAN 100 of eth0.
func (l *Link) completeVLAN() error {
	base, tail, dotted := strings.Cut(l.Device, ".")
	id, err := strconv.Atoi(tail)
	if l.VLAN == 0 && l.Parent == "" {
		if dotted && err == nil && id >= 1 && id <= 4094 && len(l.Bond) == 0 {
			l.Parent, l.VLAN = base, id
		}
		return nil
	}
	if l.VLAN == 0 || l.Parent == "" {
		return errors.New("vlan and parent go together: data,dhcp,vlan=100,parent=eth0")
	}
	if l.Device == "" {
		l.Device = fmt.Sprintf("%s.%d", l.Parent, l.VLAN)
	}
	if !deviceName.MatchString(l.Device) || !deviceName.MatchString(l.Parent) || l.Device == l.Parent {
		return fmt.Errorf("%.40q on %.40q are no names of a VLAN and its device", l.Device, l.Parent)
	}
	return nil
}

func (l *Link) anyDevice() bool { return l.Device == "" && l.MAC == nil && l.VLAN == 0 }

// Name is what to call it in messages.
func (l *Link) Name() string {
	switch {
	case l.Device != "":
		return l.Device
	case l.MAC != nil:
		return l.MAC.String()
	}
	return "every device"
}
