package script

// builtin is the script for groups that have none of their own. It tries for ever: whoever stands before the node sees why.
const builtin = `#!ipxe
echo windlass: {{.Name}} ({{.MAC}}) boots as {{.Group}}
:again
imgfree
kernel --name {{.Kernel.Name}} {{.Kernel.URL}} {{range .Layers}}initrd={{.Name}} {{end}}{{.CommandLine}} || goto failed
{{range .Layers}}initrd --name {{.Name}} {{.URL}} || goto failed
{{end}}boot || goto failed
:failed
echo windlass: {{.Name}} could not boot: ${errno}; trying again in 10 seconds
sleep 10
chain --replace {{.Script}} || goto again
`
