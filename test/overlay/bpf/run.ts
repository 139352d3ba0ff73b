// Runs the BPF programs on packets in the kernel (BPF_PROG_TEST_RUN), with chosen tables, in a namespace of their own.

import type { Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { ipv6OfBytes } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import type { Vni } from '#model/ids.ts'
import {
  DROPS,
  HOW,
  ledgerKey,
  networkValue,
  portValue,
  SCOPES,
  settingsValue,
  summed,
  word,
  type NetworkEntry,
  type SettingsEntry
} from '#overlay/plan/programs/entries.ts'
import { readLinks } from '#overlay/kernel/kernel.ts'
import { createVeth, getLinks, setLink } from '#overlay/netlink/link.ts'
import { closeDatapath, loadDatapath, readObjects, type Datapath } from '#overlay/bpf/datapath.ts'
import { runProgram } from '#platform/bpf.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { inScratchNetns } from '#platform/netns.ts'
import { DEVICE_MAC, type Outcome, type Station, type Tables } from './model.ts'
import type { ToldAddresses } from './told.ts'
import { addressKey, addressWord, encodeValue, neighbourValue, stationKey } from '../entry-bytes.ts'
import { stationWord } from '#overlay/plan/programs/tables.ts'

const VERDICTS: Readonly<Record<number, Outcome['verdict']>> = { [-1]: 'next', 2: 'drop', 7: 'redirect' }
/** struct __sk_buff. */
const CONTEXT_BYTES = 192
const [IFINDEX_OFFSET, SEGMENT_OFFSET] = [40, 176]
const TRAFFIC = ['sent', 'sent bytes', 'redirected', 'redirected bytes', 'dropped', 'limited'] as const

/** Limits of each container, in packets a second; 0 is none. */
export type Rates = Pick<SettingsEntry, 'flowsRate' | 'broadcastsRate'>

/** Devices of the namespace, whose ifindexes are 2 and up: 1 is the loopback device. */
const DEVICES = 10

/** Loads the programs and runs `use` in a namespace of its own. */
export function withBench<T>(tables: Tables, use: (bench: Bench) => T, rates?: Rates): T {
  return inScratchNetns(() => {
    const socket = NetlinkSocket.open(null)
    for (let i = 0; i < DEVICES; i += 2) {
      const peer = { name: `d${i + 1}`, mac: macOf(`02000000010${i + 1}`) }
      socket.request(createVeth({ name: `d${i}`, mtu: 1_500, group: 0, peer }), 'create veth')
    }
    for (const { ifindex, name } of readLinks(socket, getLinks())) {
      if (/^d\d+$/.test(name)) socket.request(setLink(ifindex, { mac: macOf(DEVICE_MAC) }), 'set the MAC')
    }
    const bench = new Bench(tables, rates)
    try {
      return use(bench)
    } finally {
      bench.close()
      socket.close()
    }
  })
}

export class Bench {
  readonly datapath: Datapath
  readonly #tables: Tables
  /** All counters as they last were. */
  #counters = new Map<string, number>()

  constructor(tables: Tables, rates: Rates = { flowsRate: 0, broadcastsRate: 0 }) {
    this.#tables = tables
    this.datapath = loadDatapath(readObjects())
    this.setRates(rates)
    this.#fill()
    this.#counters = this.#read()
  }

  /** Without the counters, which take long to read. */
  run(program: string, packet: Buffer, ifindex: number, segmentBytes = 0): Pick<Outcome, 'verdict' | 'packet'> {
    const context = new Uint8Array(CONTEXT_BYTES)
    const fields = new DataView(context.buffer)
    fields.setUint32(IFINDEX_OFFSET, ifindex, true)
    fields.setUint32(SEGMENT_OFFSET, segmentBytes, true)
    const fd = this.datapath.programs.get(program)?.fd ?? -1
    const ran = runProgram(fd, packet, context)
    const verdict = VERDICTS[ran.verdict]
    if (ran.value < 0 || verdict === undefined)
      throw new Error(
        `${program}: errno ${ran.errno}, verdict ${ran.verdict}, ${packet.toString('hex')}, ifindex ${ifindex}`
      )
    return { verdict, packet: Buffer.from(ran.packet) }
  }

  setRates(rates: Rates): void {
    const value = settingsValue({ ...this.#tables.settings, ...rates })
    this.map('vxm_settings').set([{ key: word(0), value }])
  }

  /** What was counted since the last call: by how many packets each counter went up. */
  counted(): Map<string, number> {
    const before = this.#counters
    this.#counters = this.#read()
    return new Map(
      [...this.#counters]
        .map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const)
        .filter(([, grown]) => grown !== 0)
    )
  }

  close(): void {
    closeDatapath(this.datapath)
  }

  map(name: string): NonNullable<ReturnType<Datapath['maps']['get']>> {
    const map = this.datapath.maps.get(name)
    if (map === undefined) throw new Error(`no map ${name}`)
    return map
  }

  #fill(): void {
    const { ports, stations, neighbours, neighbours6, vteps, tunnels, networks, underlays, locals } = this.#tables
    for (const [network, { tunnel, told }] of networks) {
      this.map('vxm_networks').set([{ key: word(network), value: networkValue({ tunnel, told: toldOf(told) }) }])
    }
    for (const address of locals) {
      this.map('vxm_locals').set([{ key: addressWord(address as Ipv4), value: word(1) }])
    }
    for (const [ifindex, bytes] of underlays) {
      this.map('vxm_underlays').set([{ key: word(ifindex), value: word(bytes) }])
    }
    for (const [ifindex, { network, address, address6, mac, redirects, services = 'none', mtu }] of ports) {
      const addresses = [
        ...(address === undefined ? [] : [address]),
        ...(address6 === undefined ? [] : [ipOf(address6)])
      ]
      const value = portValue({ network: network as Vni, addresses, mac: macOf(mac), redirects, services, mtu })
      this.map('vxm_ports').set([{ key: word(ifindex), value }])
      for (const map of ['vxm_traffic', 'vxm_buckets', 'vxm_flow_counts'].map(name => this.map(name))) {
        map.set([{ key: word(ifindex), value: new Uint8Array(map.valueBytes) }])
      }
    }
    for (const [key, station] of stations) {
      const [network = '', mac = ''] = key.split(' ')
      const entry = {
        key: stationKey(Number(network) as Vni, macOf(mac)),
        value: encodeValue(
          'stations',
          stationWord({
            to: station.to,
            how: HOW[station.how],
            tells: tellsOf(station),
            awaits: Number(station.awaits ?? false)
          })
        )
      }
      this.map('vxm_stations').set([entry])
    }
    for (const [name, all] of [
      ['vxm_neighbours', neighbours],
      ['vxm_neighbours6', neighbours6]
    ] as const) {
      for (const [key, mac] of all) this.map(name).set([{ key: addressKeyOf(key), value: neighbourValue(macOf(mac)) }])
    }
    this.#fillServices()
    for (const key of vteps) this.map('vxm_vteps').set([{ key: addressKeyOf(key), value: word(1) }])
    for (const [ifindex, network] of tunnels) {
      this.map('vxm_tunnels').set([{ key: word(ifindex), value: word(network) }])
      for (const scope of SCOPES) {
        const value = new Uint8Array(this.map('vxm_ledger').valueBytes)
        this.map('vxm_ledger').set([{ key: ledgerKey(network as Vni, scope), value }])
      }
    }
  }

  #fillServices(): void {
    for (const { network, address, port, protocol, backends, slots, byClient = false } of this.#tables.services ?? []) {
      const key = Buffer.alloc(24)
      key.writeUInt32LE(network, 0)
      mapped(address).copy(key, 4)
      key.writeUInt16BE(port, 20)
      key.writeUInt8(protocol, 22)
      for (const [place, backend] of backends.entries()) {
        const value = Buffer.alloc(24)
        mapped(backend.address).copy(value, 0)
        value.writeUInt16BE(backend.port, 16)
        value.write(backend.mac, 18, 'hex')
        this.map('vxm_backends').set([{ key: partOf(key, place), value }])
      }
      for (let part = 0; part === 0 || part * 1_024 < slots.length; part++) {
        const value = Buffer.alloc(1_028)
        value.writeUInt16LE(slots.length, 0)
        value.writeUInt16LE(Number(byClient), 2)
        Buffer.from(slots.slice(part * 1_024, (part + 1) * 1_024)).copy(value, 4)
        this.map('vxm_services').set([{ key: partOf(key, part), value }])
      }
    }
  }

  #read(): Map<string, number> {
    const counters = new Map<string, number>()
    for (const ifindex of this.#tables.ports.keys()) {
      const value = this.map('vxm_traffic').get(word(ifindex))
      summed(value ?? new Uint8Array(), TRAFFIC.length).forEach((count, i) => {
        if (!TRAFFIC[i]?.endsWith('bytes')) counters.set(`${TRAFFIC[i] ?? ''} ${ifindex}`, count)
      })
    }
    for (const network of this.#tables.tunnels.values()) {
      for (const scope of SCOPES) {
        const value = this.map('vxm_ledger').get(ledgerKey(network as Vni, scope))
        counters.set(`scope ${network} ${scope}`, summed(value ?? new Uint8Array(), 2)[0] ?? 0)
      }
    }
    DROPS.forEach((why, i) => {
      const value = this.map('vxm_drops').get(word(i))
      counters.set(`drop ${why}`, summed(value ?? new Uint8Array(), 2)[0] ?? 0)
    })
    return counters
  }
}

function mapped(address: string): Buffer {
  return Buffer.from(address.length === 8 ? `00000000000000000000ffff${address}` : address, 'hex')
}

function partOf(key: Buffer, part: number): Buffer {
  const copy = Buffer.from(key)
  copy.writeUInt8(part, 23)
  return copy
}

function macOf(hex: string): Mac {
  return (hex.match(/../g) ?? []).join(':') as Mac
}

function tellsOf({ tells = [] }: Station): number {
  return (tells.includes('ipv4') ? 1 : 0) + (tells.includes('ipv6') ? 2 : 0)
}

function toldOf(told: ToldAddresses | undefined): NetworkEntry['told'] {
  if (told === undefined) return null
  const { base, first, count } = told
  return { subnet: { base: ipOf(base), prefixLength: 0 }, first, count }
}

function addressKeyOf(key: string): Uint8Array {
  const [network = '', address = ''] = key.split(' ')
  return addressKey(Number(network) as Vni, ipOf(address))
}

/** @param text an IPv4 address as a number, or the 32 digits of an IPv6 address */
function ipOf(text: string): Ip {
  return text.length === 32 ? ipv6OfBytes(Buffer.from(text, 'hex')) : (Number(text) as Ipv4)
}
