package kmod

import (
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Preset is a list of modules by a name. Which of them there are differs from kernel to kernel, so what is missing is no error.
type Preset string

// The presets.
const (
	Minimal Preset = "minimal" // what a virtual machine needs to reach its network and raise chains
	HPC     Preset = "hpc"     // that, and the hardware of clusters
	All     Preset = "all"     // every module that there is
)

// Presets lists them.
func Presets() []Preset { return []Preset{Minimal, HPC, All} }

// ParsePreset takes the name of a preset; "" is none.
func ParsePreset(name string) (Preset, error) {
	if p := Preset(name); name == "" || slices.Contains(Presets(), p) {
		return p, nil
	}
	return "", fault.New(fault.Invalid, "there is no preset %q; there are %s, %s and %s", name, Minimal, HPC, All)
}

// Request gives what the preset asks for.
func (p Preset) Request() Request {
	switch p {
	case Minimal:
		return Request{Wanted: minimal()}
	case HPC:
		return Request{Wanted: slices.Concat(minimal(), hpc()), After: after()}
	case All:
		return Request{All: true, After: after()}
	}
	return Request{}
}

// after is what udev's rules load once a device is there, and no alias asks for.
func after() map[string][]string {
	rdma := []string{"ib_ipoib", "ib_umad", "ib_uverbs", "rdma_ucm"}
	return map[string][]string{"mlx5_ib": rdma, "mlx4_ib": rdma, "hfi1": rdma, "ib_qib": rdma, "irdma": rdma, "bnxt_re": rdma, "qedr": rdma,
		"iw_cxgb4": rdma, "ipmi_si": {"ipmi_devintf"}, "ipmi_ssif": {"ipmi_devintf"}}
}

func fields(groups ...string) []string { return strings.Fields(strings.Join(groups, " ")) }

func minimal() []string {
	return fields(
		// Devices of virtual machines.
		"virtio virtio_ring virtio_pci virtio_mmio virtio_blk virtio_scsi virtio_net virtio_console virtio_rng virtio_balloon virtio_input",
		"9p 9pnet_virtio virtiofs vsock vmw_vsock_virtio_transport failover net_failover e1000 8139cp sd_mod sr_mod",
		"xen_netfront xen_blkfront hv_vmbus hv_netvsc hv_storvsc hv_utils vmxnet3 vmw_pvscsi ena gve nvme",
		// Network before there is anything else.
		"af_packet unix ipv6 8021q bonding bridge veth dummy macvlan ipvlan tun",
		// What chains are made of.
		"loop squashfs erofs overlay fuse cuse autofs4 cachefiles isofs vfat nls_cp437 nls_iso8859-1 nls_utf8 nls_ascii ext4",
		"nfs nfsv3 nfsv4 sunrpc lockd auth_rpcgss rpcsec_gss_krb5 libceph rbd",
		"libiscsi libiscsi_tcp iscsi_tcp scsi_transport_iscsi nbd dm_mod dm_verity",
		// Checksums and ciphers that these ask for by an alias.
		"crc32c_generic crc32c_intel crc32c_cryptoapi crc32c libcrc32c crc32_generic crc32_pclmul crct10dif_generic crct10dif_pclmul crc64_rocksoft_generic",
		"aes_generic aesni_intel gcm ccm ctr cbc cts ecb xts hmac md5 sha1_generic sha256_generic sha256_ssse3 sha512_generic",
		"sha512_ssse3 xxhash_generic blake2b_generic deflate lz4 lz4hc zstd lzo lzo_rle",
		// Entropy, power and a clock.
		"tpm_tis tpm_crb rng_core rtc_cmos qemu_fw_cfg ptp_kvm button i6300esb",
	)
}

func hpc() []string {
	return fields(
		// Ethernet.
		"mlx4_core mlx4_en mlx5_core mlxfw ice i40e iavf ixgbe ixgbevf igb igbvf igc e1000e e1000 fm10k idpf bnxt_en bnx2x bnx2 tg3 qed qede qlcnic netxen_nic",
		"cxgb3 cxgb4 cxgb4vf sfc sfc_falcon sfc_siena atlantic r8169 realtek r8125 enic be2net nfp ionic pds_core hns3 hclge hclgevf hinic fbnic",
		"mana sky2 skge forcedeth atl1c atl1e alx jme via_velocity amd_xgbe liquidio octeon_ep thunderx2 nicvf macb stmmac dwmac_generic",
		"usbnet cdc_ether cdc_ncm cdc_eem cdc_subset ax88179_178a asix r8152 r8153_ecm lan78xx smsc95xx rndis_host bnx2i cnic",
		"mdio marvell broadcom bcm_phy_lib intel_xway smsc micrel aquantia marvell10g",
		// InfiniBand, Omni-Path, RoCE, iWARP, Slingshot.
		"ib_core ib_cm iw_cm ib_mad ib_uverbs ib_umad rdma_cm rdma_ucm ib_ipoib ib_iser ib_srp mlx4_ib mlx5_ib hfi1 ib_qib rdmavt opa_vnic irdma",
		"bnxt_re qedr iw_cxgb4 efa erdma hns_roce_hw_v2 ocrdma vmw_pvrdma rdma_rxe siw nvme_rdma rpcrdma cxi_ss1 cxi_user",
		// Disks.
		"nvme nvme_core nvme_tcp nvme_fabrics ahci libahci libata ata_piix ata_generic sd_mod sr_mod sg mpt3sas mpi3mr megaraid_sas megaraid_mm megaraid_mbox",
		"aacraid hpsa smartpqi isci pm80xx mvsas arcmsr 3w-sas 3w-9xxx lpfc qla2xxx qla4xxx bfa fnic be2iscsi ipr pmcraid ses enclosure vmd",
		"scsi_transport_sas scsi_transport_fc scsi_transport_spi scsi_dh_alua scsi_dh_rdac raid_class sdhci_pci sdhci_acpi mmc_block ufshcd_pci",
		"nd_pmem nd_btt nd_blk nfit dax_pmem device_dax kmem",
		// USB: keyboards, consoles of service processors, sticks.
		"xhci_pci xhci_hcd ehci_pci ehci_hcd uhci_hcd ohci_pci ohci_hcd usbcore usb_storage uas usbhid hid hid_generic hid_multitouch usbserial ftdi_sio pl2303 cdc_acm",
		"atkbd i8042 evdev ast mgag200 simpledrm efifb",
		// File systems, and what lies below them.
		"ext4 xfs btrfs ceph vfat exfat isofs udf f2fs ntfs3 zonefs cifs lustre lnet gfs2 dlm configfs efivarfs autofs4 binfmt_misc",
		"dm_mod dm_crypt dm_multipath dm_round_robin dm_service_time dm_queue_length dm_thin_pool dm_snapshot dm_mirror dm_raid dm_integrity",
		"dm_verity dm_cache dm_writecache raid0 raid1 raid10 raid456 linear md_mod zram",
		// Network beyond the plain.
		"8021q garp mrp bonding team team_mode_activebackup team_mode_loadbalance team_mode_roundrobin bridge br_netfilter stp llc vxlan geneve macvlan",
		"macvtap ipvlan vrf veth dummy tun tap ip_tunnel ip6_tunnel sit gre ip_gre wireguard nf_tables nf_conntrack nft_chain_nat nft_ct nft_masq",
		"ip_tables iptable_filter iptable_nat ip6_tables xt_MASQUERADE xt_conntrack xt_comment xt_addrtype sch_fq sch_fq_codel tcp_bbr tcp_dctcp tls sctp",
		"cls_cgroup inet_diag tcp_diag udp_diag unix_diag af_packet_diag",
		// Looking after the node.
		"ipmi_msghandler ipmi_si ipmi_ssif ipmi_devintf ipmi_watchdog ipmi_poweroff iTCO_wdt iTCO_vendor_support sp5100_tco hpwdt softdog i6300esb wdat_wdt",
		"tpm tpm_tis tpm_crb tpm_tis_spi i2c_i801 i2c_piix4 i2c_smbus lpc_ich acpi_power_meter acpi_pad acpi_cpufreq intel_rapl_msr intel_rapl_common",
		"intel_uncore_frequency coretemp k10temp power_meter msr cpuid einj erst_dbg ghes_edac amd64_edac skx_edac i10nm_edac ie31200_edac mei_me mei",
		"ioatdma idxd ptdma ccp qat_4xxx vfio_pci vfio_iommu_type1 kvm_intel kvm_amd mei_wdt dca ptp pps_core",
	)
}
