// Generates vxmesh(8) from the help of every command.

import { commandHelp } from '../scripts/docs.ts'

export function manPage(version: string, epoch: number): string {
  const date = new Date(epoch * 1_000).toISOString().slice(0, 10)
  const commands = commandHelp().map(({ path, help }) => {
    return `.SS "${`vxmesh ${path}`.trim()}"\n.nf\n${help.trim().split('\n').map(verbatim).join('\n')}\n.fi\n`
  })
  return `.TH VXMESH 8 "${date}" "vxmesh ${version}" "vxmesh"
.SH NAME
vxmesh \\- mesh of isolated tenant networks for containers
.SH SYNOPSIS
.B vxmesh
.I command
.RI [ options ]
.SH DESCRIPTION
One agent a host, run by
.BR vxmesh.service ,
joins the machines into one mesh; every other command asks the agent of this host by its socket.
.SH COMMANDS
${commands.join('')}.SH FILES
.TP
.I /etc/vxmesh/vxmesh.yaml
settings of the agent
.TP
.I /etc/vxmesh/cluster.key
the cluster key, the same on all hosts
.TP
.I /var/lib/vxmesh
what must survive a restart
.TP
.I /usr/share/doc/vxmesh
every setting, error and metric, and how to operate it
.SH SEE ALSO
.BR serf (1),
.BR nft (8),
.BR ip\\-link (8)
`
}

/** Escapes a line for roff: its backslashes, and a dot or apostrophe at its start. */
function verbatim(line: string): string {
  return line
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(?=[.'])/, '\\&')
}
