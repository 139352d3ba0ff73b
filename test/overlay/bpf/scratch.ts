// Devices in a network namespace of the test's own, which goes with its socket, and filters on them.

import type { Test } from 'tap'
import type { Mac } from '#model/mac.ts'
import { PROGRAM_PRIORITY } from '#overlay/bpf/filter.ts'
import type { Kernel } from '#overlay/kernel/kernel.ts'
import { readLink } from '#overlay/kernel/kernel.ts'
import { createVeth, deleteLink } from '#overlay/netlink/link.ts'
import { createClsact, deleteFilters, getFilters, setProgramFilter } from '#overlay/netlink/tc.ts'
import { decodeFilter } from '#overlay/netlink/tc-info.ts'
import { RTM_NEWTFILTER, TC_H_INGRESS_FILTERS } from '#overlay/netlink/tc-constants.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'

export class Scratch {
  readonly socket = NetlinkSocket.openScratch()
  readonly kernel: Kernel = { socket: this.socket, netns: null, ipv6: { present: false, sysctl: false } }
  #peers = 0

  constructor(t: Test) {
    t.teardown(() => this.socket.close())
  }

  /** Adds a device, one end of a veth pair. @returns its ifindex */
  add(name: string): number {
    const peer = { name: `peer${++this.#peers}`, mac: '02:00:00:00:00:01' as Mac }
    this.socket.request(createVeth({ name, mtu: 1_500, group: 0, peer }), `create ${name}`)
    return this.ifindexOf(name)
  }

  remove(name: string): void {
    this.socket.request(deleteLink(name), `delete ${name}`)
  }

  ifindexOf(name: string): number {
    const link = readLink(this.socket, name)
    if (link === null) throw new Error(`no device ${name}`)
    return link.ifindex
  }

  /** Runs a program on what a device receives, as anybody may. @param p.handle 1, as ours have, by default */
  attach(
    ifindex: number,
    p: { readonly fd: number; readonly name: string; readonly priority?: number; readonly handle?: number }
  ): void {
    const { fd, name, priority = PROGRAM_PRIORITY, handle = 1 } = p
    const { body, ...rest } = setProgramFilter({ ifindex, priority, program: fd, name })
    const filter = Uint8Array.from(body)
    // struct tcmsg: family, ifindex, handle.
    new DataView(filter.buffer).setUint32(8, handle, true)
    const [, refused] = this.socket.batch([createClsact(ifindex), { ...rest, body: filter }], 'attach')
    if (refused !== null && refused !== undefined) throw new Error(refused.message)
  }

  /** The names of the programs that a device runs, and their priorities. */
  filtersOn(name: string): string[] {
    const request = getFilters({ ifindex: this.ifindexOf(name), parent: TC_H_INGRESS_FILTERS })
    const decode = (type: number, payload: Uint8Array): string | undefined => {
      const filter = type === RTM_NEWTFILTER ? decodeFilter(payload) : null
      // Each priority begins with an entry that has no program.
      const { id = 0, name = '' } = filter?.program ?? {}
      return filter === null || id === 0 ? undefined : `${filter.priority} ${name}`
    }
    return [...this.socket.dump(request, decode, 'read filters')].sort()
  }

  detach(ifindex: number): void {
    const filters = { ifindex, parent: TC_H_INGRESS_FILTERS, priority: PROGRAM_PRIORITY }
    this.socket.request(deleteFilters(filters), 'detach')
  }
}
