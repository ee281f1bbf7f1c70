package config

// file is netboot.yaml as it is written. The fields are texts, so that all that is wrong can be told at once.
type file struct {
	StateDir     string                `json:"state_dir"`
	Log          fileLog               `json:"log"`
	HTTP         fileHTTP              `json:"http"`
	TFTP         fileTFTP              `json:"tftp"`
	Interfaces   []fileInterface       `json:"interfaces"`
	Subnets      []fileSubnet          `json:"subnets"`
	Unknown      string                `json:"unknown"`
	DefaultGroup string                `json:"default_group"`
	Groups       map[string]*fileGroup `json:"groups"`
	Nodes        []fileNode            `json:"nodes"`
	Files        string                `json:"files"`
	Images       string                `json:"images"`
	IPXE         fileIPXE              `json:"ipxe"`
	Report       *bool                 `json:"report"`
}

type fileLog struct {
	Level  string `json:"level"`
	Format string `json:"format"`
}

type fileHTTP struct {
	Listen      *string  `json:"listen"`
	URL         string   `json:"url"`
	StatusFrom  []string `json:"status_from"`
	CheckSource *bool    `json:"check_source"`
}

type fileTFTP struct {
	Listen *string `json:"listen"`
}

type fileInterface struct {
	Name    string `json:"name"`
	Mode    string `json:"mode"`
	Address string `json:"address"`
	EmptyRA bool   `json:"empty_ra"`
	Probe   *bool  `json:"probe"`
}

type fileSubnet struct {
	Subnet    string   `json:"subnet"`
	Ranges    []string `json:"ranges"`
	Router    string   `json:"router"`
	DNS       []string `json:"dns"`
	NTP       []string `json:"ntp"`
	Domain    string   `json:"domain"`
	LeaseTime string   `json:"lease_time"`
}

type fileGroup struct {
	Kernel      string            `json:"kernel"`
	Initramfs   []string          `json:"initramfs"`
	CommandLine string            `json:"command_line"`
	Params      map[string]string `json:"params"`
	Script      string            `json:"script"`
	ScriptFile  string            `json:"script_file"`
}

type fileNode struct {
	Name   string            `json:"name"`
	MAC    string            `json:"mac"`
	IP     string            `json:"ip"`
	Group  string            `json:"group"`
	Params map[string]string `json:"params"`
}

type fileIPXE struct {
	Dir   string `json:"dir"`
	BIOS  string `json:"bios"`
	EFI32 string `json:"efi32"`
	EFI64 string `json:"efi64"`
	ARM64 string `json:"arm64"`
}
