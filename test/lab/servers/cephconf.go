package servers

import (
	"net/netip"
	"os"
	"strings"
	"text/template"
)

// writeConf writes ceph.conf. What matters to its speed: short elections and proposals of the monitors, few threads in the OSD.
func (c *Ceph) writeConf() error {
	t, err := template.New("ceph.conf").Parse(configurationText)
	if err != nil {
		return err
	}
	var mons, names []string
	for i := range c.cfg.Mons {
		mons, names = append(mons, c.addrv(i)), append(names, monName(i))
	}
	store := "memstore"
	if c.cfg.Durable {
		store = "bluestore"
	}
	f, err := os.Create(c.Conf())
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Execute(f, struct {
		FSID, Names, Mons, Dir, Store string
		Addr                          netip.Addr
		Settings                      map[string]string
	}{c.fsid, strings.Join(names, ","), strings.Join(mons, ","), c.cfg.Dir, store, c.cfg.Addr, c.cfg.Settings})
}

const configurationText = `[global]
fsid = {{.FSID}}
mon_initial_members = {{.Names}}
mon_host = {{.Mons}}
public_addr = {{.Addr}}
cluster_addr = {{.Addr}}
ms_bind_ipv4 = {{not .Addr.Is6}}
ms_bind_ipv6 = {{.Addr.Is6}}
ms_bind_retry_count = 2
ms_bind_retry_delay = 1
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = true
mon_warn_on_insecure_global_id_reclaim = false
mon_warn_on_insecure_global_id_reclaim_allowed = false
keyring = {{.Dir}}/keyring
run_dir = {{.Dir}}/run
pid_file = {{.Dir}}/run/$name.pid
admin_socket = {{.Dir}}/run/$name.asok
log_file = {{.Dir}}/log/$name.log
crash_dir = {{.Dir}}/run
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
rbd_default_features = 1
{{range $name, $value := .Settings}}{{$name}} = {{$value}}
{{end}}[client]
admin_socket =
log_file =
[mon]
mon_data = {{.Dir}}/mon.$id
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_election_timeout = 1
mon_lease = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[osd]
osd_data = {{.Dir}}/osd
osd_journal = {{.Dir}}/osd/journal
osd_objectstore = {{.Store}}
memstore_device_bytes = 2147483648
bluestore_block_size = 2147483648
bluestore_block_create = true
bluestore_fsck_on_mount = false
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
osd_op_thread_suicide_timeout = 3600
osd_class_default_list = *
osd_class_load_list = *
osd_fast_shutdown = false
osd_crush_update_on_start = true
`
