// A kernel of plain maps that obeys ops as the real one does: one bridge entry a MAC, neighbours flushed by a change of
// address, ports that lose their settings with their bridge, and refusal of what is impossible.

import type { IfName } from '#model/ids.ts'
import { isIpv4, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { OVERLAY_GROUP } from '#overlay/plan/network/names.ts'
import type { Observed, ObservedLink, ObservedVxlan } from '#overlay/plan/network/observed.ts'
import { PORT_FLAGS, VXLAN_TTL, type LinkChanges, type Op } from '#overlay/plan/network/op.ts'

export class SimulatedKernel {
  readonly links: Map<string, ObservedLink>
  #nextIndex = 1000

  constructor(observed: Observed = { links: new Map(), scope: null }) {
    this.links = new Map(observed.links)
  }

  observe(): Observed {
    return { links: new Map(this.links), scope: null }
  }

  run(ops: readonly Op[]): this {
    for (const op of ops) this.#run(op)
    return this
  }

  /** What attach does. */
  addVeth(p: { name: IfName; alias: string; master: string | null }): void {
    this.links.set(p.name, {
      ...this.#device(p.name, p.alias, 1450),
      kind: 'veth',
      master: p.master,
      flags: p.master === null ? null : { learning: true, unicastFlood: true, neighSuppress: false },
      macs: new Map()
    })
  }

  #run(op: Op): void {
    switch (op.kind) {
      case 'bridge-create':
        this.#refuseExisting(op.device)
        this.links.set(op.device, {
          ...this.#device(op.device, op.alias, op.mtu),
          kind: 'bridge',
          mac: op.mac,
          multicastSnooping: false,
          neighbours: new Map()
        })
        break
      case 'vxlan-create':
        this.#refuseExisting(op.device)
        this.#get(op.bridge, 'bridge')
        this.links.set(op.device, {
          ...this.#device(op.device, op.alias, op.mtu),
          kind: 'vxlan',
          vni: op.vni ?? 0,
          local: op.local,
          port: op.port,
          ttl: VXLAN_TTL,
          learning: false,
          odd: false,
          master: op.bridge,
          flags: PORT_FLAGS.vxlan,
          flood: new Set(),
          floodOdd: false,
          entries: new Map()
        })
        break
      case 'vxlan-set':
        if (isIpv4(op.local) !== isIpv4(this.#vxlan(op.device).local ?? op.local)) throw new Error('EOPNOTSUPP')
        this.#change(op.device, 'vxlan', { local: op.local, learning: false, ttl: VXLAN_TTL })
        break
      case 'link-set':
        this.#linkSet(op.device, op.changes)
        break
      case 'port-set': {
        const link = this.#port(op.device)
        if (link.master === null) throw new Error(`${op.device} is no port`)
        this.links.set(op.device, { ...link, flags: PORT_FLAGS[op.role] })
        break
      }
      case 'shape':
        throw new Error('queues are not part of what this kernel tells')
      case 'switch-set':
      case 'switch-port-set':
      case 'switch-port-delete':
      case 'flows-set':
      case 'flows-delete':
        throw new Error(`${op.kind}: these bridges are the kernel's`)
      case 'device-delete':
        this.#delete(op.ifindex)
        break
      case 'flood-add':
        this.#change(op.device, 'vxlan', { flood: new Set([...this.#vxlan(op.device).flood, op.vtep]) })
        break
      case 'flood-delete':
        this.#change(op.device, 'vxlan', {
          flood: new Set([...this.#vxlan(op.device).flood].filter(vtep => vtep !== op.vtep))
        })
        break
      case 'flood-clear':
        this.#change(op.device, 'vxlan', { flood: new Set(), floodOdd: false })
        break
      case 'fdb-set': {
        const { master } = this.#vxlan(op.device)
        if (master === null) throw new Error(`${op.device} is no port`)
        this.#forgetMac(master, op.mac)
        this.#entries(op.device, entries => entries.set(op.mac, { vtep: op.vtep, self: true, bridged: 'static' }))
        break
      }
      case 'fdb-delete':
        this.#entries(op.device, entries => {
          const entry = entries.get(op.mac)
          if (entry === undefined) return
          const left = {
            vtep: op.self ? null : entry.vtep,
            self: entry.self && !op.self,
            bridged: op.bridged ? ('none' as const) : entry.bridged
          }
          if (left.self || left.bridged !== 'none') entries.set(op.mac, left)
          else entries.delete(op.mac)
        })
        break
      case 'port-mac-set': {
        const { master } = this.#port(op.device)
        if (master === null) throw new Error(`${op.device} is no port`)
        this.#forgetMac(master, op.mac)
        this.#macs(op.device, macs => macs.set(op.mac, 'static'))
        break
      }
      case 'port-mac-delete':
        this.#macs(op.device, macs => macs.delete(op.mac))
        break
      case 'neighbour-set':
        this.#neighbours(op.device, table => table.set(op.address, op.mac))
        break
      case 'neighbour-delete':
        this.#neighbours(op.device, table => table.delete(op.address))
        break
    }
  }

  #linkSet(name: string, changes: LinkChanges): void {
    const { master, ipv6, ...rest } = changes
    const link = this.links.get(name)
    if (link === undefined || link.kind === 'foreign') throw new Error(`${name} is not there to be set`)
    // A change of address, and a link that comes up again, flush the neighbours.
    const flushed = link.kind === 'bridge' && (rest.mac !== undefined || (rest.up === true && !link.up))
    this.links.set(name, {
      ...link,
      ...rest,
      ...(ipv6 === undefined ? {} : { ipv6 }),
      ...(flushed ? { neighbours: new Map<Ip, Mac>() } : {})
    })
    if (master !== undefined) {
      this.#get(master, 'bridge')
      this.#release(name)
      this.links.set(name, {
        ...this.#port(name),
        master,
        flags: { learning: true, unicastFlood: true, neighSuppress: false }
      })
    }
  }

  #delete(ifindex: number): void {
    const gone = [...this.links.values()].find(link => link.ifindex === ifindex)
    if (gone === undefined) return
    this.links.delete(gone.name)
    for (const link of this.links.values()) {
      if ((link.kind === 'vxlan' || link.kind === 'veth') && link.master === gone.name) this.#release(link.name)
    }
  }

  /** Takes a port out of its bridge. */
  #release(name: string): void {
    const link = this.#port(name)
    if (link.kind === 'veth') {
      this.links.set(name, { ...link, master: null, flags: null, macs: new Map() })
      return
    }
    const entries = [...link.entries].filter(([, e]) => e.self)
    this.links.set(name, {
      ...link,
      master: null,
      flags: null,
      entries: new Map(entries.map(([mac, e]) => [mac, { ...e, bridged: 'none' as const }]))
    })
  }

  /** A bridge has one entry a MAC: setting it on one port takes it from the others. */
  #forgetMac(bridge: string, mac: Mac): void {
    for (const link of [...this.links.values()]) {
      if (link.kind === 'veth' && link.master === bridge) this.#macs(link.name, macs => macs.delete(mac))
      if (link.kind === 'vxlan' && link.master === bridge) {
        this.#entries(link.name, entries => {
          const entry = entries.get(mac)
          if (entry?.self === true) entries.set(mac, { ...entry, bridged: 'none' })
          else entries.delete(mac)
        })
      }
    }
  }

  #entries(
    name: string,
    edit: (entries: Map<Mac, ObservedVxlan['entries'] extends ReadonlyMap<Mac, infer E> ? E : never>) => void
  ): void {
    const entries = new Map(this.#vxlan(name).entries)
    edit(entries)
    this.#change(name, 'vxlan', { entries })
  }

  #macs(name: string, edit: (macs: Map<Mac, 'static' | 'other'>) => void): void {
    const macs = new Map(this.#get(name, 'veth').macs)
    edit(macs)
    this.#change(name, 'veth', { macs })
  }

  #neighbours(name: string, edit: (table: Map<Ip, Mac | null>) => void): void {
    const table = new Map(this.#get(name, 'bridge').neighbours)
    edit(table)
    this.#change(name, 'bridge', { neighbours: table })
  }

  #change<K extends ObservedLink['kind']>(
    name: string,
    kind: K,
    change: Partial<Extract<ObservedLink, { kind: K }>>
  ): void {
    this.links.set(name, { ...this.#get(name, kind), ...change })
  }

  #get<K extends ObservedLink['kind']>(name: string, kind: K): Extract<ObservedLink, { kind: K }> {
    const link = this.links.get(name)
    if (link?.kind !== kind) throw new Error(`${name} is no ${kind} of ours`)
    return link as Extract<ObservedLink, { kind: K }>
  }

  #vxlan(name: string): ObservedVxlan {
    return this.#get(name, 'vxlan')
  }

  #port(name: string): Extract<ObservedLink, { kind: 'vxlan' | 'veth' }> {
    const link = this.links.get(name)
    if (link?.kind !== 'vxlan' && link?.kind !== 'veth') throw new Error(`${name} can be no port`)
    return link
  }

  #refuseExisting(name: string): void {
    if (this.links.has(name)) throw new Error(`${name} exists`)
  }

  #device(name: IfName, alias: string, mtu: number) {
    return { name, ifindex: this.#nextIndex++, alias, group: OVERLAY_GROUP, mtu, up: true, ipv6: 'off' as const }
  }
}
