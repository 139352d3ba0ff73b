// The switch in the database: our bridge, its tunnel port and the other ports. Every change is one transaction. Foreign
// rows are read but never changed.

import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { formatIp, isIpv4, type Ip } from '#model/ip.ts'
import { SWITCH, SWITCH_TUNNEL } from '../plan/network/names.ts'
import type { SwitchOp } from '../plan/network/op.ts'
import type { ObservedPort, PortMark } from '../plan/network/switch.ts'
import { fromMap, fromSet, toMap, uuidOf, type Operation, type Ovsdb, type Row } from './ovsdb.ts'
import { TUNNEL_PORT } from '../plan/switch/pipeline.ts'

/** Marks a row as ours, in its external_ids. */
const OWNER = { owner: 'vxmesh' } as const
/** How long ovs-vswitchd may take to apply a configuration. */
const APPLY_MS = 5_000

export type Datapath = 'system' | 'netdev'
export type BridgeOptions = { readonly vtep: Ip; readonly port: number; readonly datapath: Datapath }
export type PortSet = Extract<SwitchOp, { kind: 'switch-port-set' }>

/** The switch as the database holds it. */
export type Rows = {
  /** Null: there is no bridge with our name. */
  readonly bridge: Row | null
  /** Interfaces of the bridge's ports, by name. */
  readonly interfaces: ReadonlyMap<string, Row>
  /** UUIDs of the bridge's ports, by name. */
  readonly ports: ReadonlyMap<string, string>
}

export class Bridge {
  readonly #db: Ovsdb
  readonly #options: BridgeOptions

  constructor(db: Ovsdb, options: BridgeOptions) {
    this.#db = db
    this.#options = options
  }

  /** @throws ERR_KERNEL */
  async read(): Promise<Rows> {
    const [bridges, ports, interfaces] = await this.#db.transact([
      select('Bridge', [['name', '==', SWITCH]]),
      select('Port', [], ['_uuid', 'name', 'interfaces']),
      select('Interface', [], INTERFACE_COLUMNS)
    ])
    const bridge = bridges?.rows?.[0] ?? null
    const own = new Set(fromSet(bridge?.['ports']).map(uuidOf))
    const byUuid = new Map(interfaces?.rows?.map(row => [uuidOf(row['_uuid']), row]))
    const found = new Map<string, Row>()
    const portRows = new Map<string, string>()
    for (const port of ports?.rows ?? []) {
      const uuid = uuidOf(port['_uuid'])
      if (!own.has(uuid)) continue
      portRows.set(String(port['name']), uuid)
      for (const reference of fromSet(port['interfaces'])) {
        const row = byUuid.get(uuidOf(reference))
        if (row !== undefined) found.set(String(row['name']), row)
      }
    }
    return { bridge, interfaces: found, ports: portRows }
  }

  isRight({ bridge, interfaces }: Rows): boolean {
    const tunnel = interfaces.get(SWITCH_TUNNEL)
    return (
      bridge !== null &&
      isOurs(bridge) &&
      bridge['fail_mode'] === 'secure' &&
      bridge['datapath_type'] === this.#options.datapath &&
      tunnel?.['type'] === 'vxlan' &&
      tunnel['ofport'] === TUNNEL_PORT &&
      tunnel['ofport_request'] === TUNNEL_PORT &&
      Object.entries(this.#tunnelOptions()).every(([key, value]) => fromMap(tunnel['options'])[key] === value)
    )
  }

  /** Creates or repairs the bridge and its tunnel port. @throws ERR_KERNEL, also when a foreign bridge has the name */
  async ensure(): Promise<void> {
    const rows = await this.read()
    if (this.isRight(rows)) return
    if (rows.bridge !== null && !isOurs(rows.bridge)) {
      throw new VxmeshError('ERR_KERNEL', `Open vSwitch has a bridge ${SWITCH} that is not ours`)
    }
    const tunnel = rows.interfaces.get(SWITCH_TUNNEL)
    const operations: Operation[] = []
    const settings = {
      fail_mode: 'secure',
      datapath_type: this.#options.datapath,
      external_ids: toMap(OWNER)
    }
    const tunnelRow = {
      type: 'vxlan',
      ofport_request: TUNNEL_PORT,
      options: toMap(this.#tunnelOptions()),
      external_ids: toMap(OWNER)
    }
    const added: unknown[] = []
    if (tunnel === undefined) {
      operations.push(...insertPort('tunnel', { name: SWITCH_TUNNEL, ...tunnelRow }))
      added.push(['named-uuid', 'tunnel'])
    } else {
      operations.push({ op: 'update', table: 'Interface', where: [is(tunnel)], row: tunnelRow })
    }
    if (rows.bridge === null) {
      operations.push(...insertPort('own', { name: SWITCH, type: 'internal' }))
      added.push(['named-uuid', 'own'])
      const row = { name: SWITCH, ...settings, ports: ['set', added] }
      operations.push(
        { op: 'insert', table: 'Bridge', row, 'uuid-name': 'bridge' },
        mutate('Open_vSwitch', [], ['bridges', 'insert', ['set', [['named-uuid', 'bridge']]]])
      )
    } else {
      operations.push({ op: 'update', table: 'Bridge', where: [is(rows.bridge)], row: settings })
      if (added.length > 0) operations.push(mutate('Bridge', [is(rows.bridge)], ['ports', 'insert', ['set', added]]))
    }
    await this.#apply(operations)
    const now = await this.read()
    if (this.isRight(now)) return
    const why = [
      now.bridge?.['name'] ?? 'no bridge',
      ...[...now.interfaces.values()].flatMap(row => fromSet(row['error']))
    ]
    throw new VxmeshError('ERR_KERNEL', `cannot set up bridge ${SWITCH}: ${why.join(', ')}`)
  }

  /**
   * Creates ports, or sets the number and mark of existing ones. Returns the ports that did not get their number, and why.
   * @throws ERR_KERNEL when the transaction fails; no port is created or changed then
   */
  async setPorts(ops: readonly PortSet[]): Promise<ReadonlyMap<PortSet, string>> {
    let rows = await this.read()
    const stale = ops.filter(({ renew, device }) => renew && rows.ports.has(device)).map(({ device }) => device)
    if (stale.length > 0) {
      await this.deletePorts(stale)
      rows = await this.read()
    }
    const { bridge } = rows
    if (bridge === null) throw new VxmeshError('ERR_KERNEL', `there is no bridge ${SWITCH}`)
    const operations: Operation[] = []
    const added: unknown[] = []
    for (const [i, { device, number, mark }] of ops.entries()) {
      const row = { ofport_request: number, external_ids: toMap(idsOf(mark)) }
      const known = rows.interfaces.get(device)
      if (known === undefined) {
        operations.push(...insertPort(`port${i}`, { name: device, ...row }))
        added.push(['named-uuid', `port${i}`])
      } else {
        operations.push({ op: 'update', table: 'Interface', where: [is(known)], row })
      }
    }
    if (added.length > 0) operations.push(mutate('Bridge', [is(bridge)], ['ports', 'insert', ['set', added]]))
    await this.#apply(operations)
    const now = await this.read()
    const failed = new Map<PortSet, string>()
    for (const op of ops) {
      const row = now.interfaces.get(op.device)
      if (row?.['ofport'] === op.number) continue
      const [error = `got port number ${numberOf(row?.['ofport'])}`] = fromSet(row?.['error'])
      failed.set(op, String(error))
    }
    return failed
  }

  /** Absent ports are skipped. @throws ERR_KERNEL */
  async deletePorts(devices: readonly string[]): Promise<void> {
    const { bridge, ports } = await this.read()
    const uuids = devices.map(device => ports.get(device)).filter(uuid => uuid !== undefined)
    if (bridge === null || uuids.length === 0) return
    const deleted = ['set', uuids.map(uuid => ['uuid', uuid])]
    await this.#apply([mutate('Bridge', [is(bridge)], ['ports', 'delete', deleted])])
  }

  #tunnelOptions(): Readonly<Record<string, string>> {
    const { vtep, port } = this.#options
    // Over IPv6 the kernel's VXLAN devices accept no packet without a UDP checksum.
    const csum = isIpv4(vtep) ? {} : { csum: 'true' }
    return { key: 'flow', remote_ip: 'flow', local_ip: formatIp(vtep), dst_port: String(port), ...csum }
  }

  /** Runs one transaction and waits until ovs-vswitchd has applied it. */
  async #apply(operations: readonly Operation[]): Promise<void> {
    const results = await this.#db.transact([
      ...operations,
      mutate('Open_vSwitch', [], ['next_cfg', '+=', 1]),
      select('Open_vSwitch', [], ['next_cfg'])
    ])
    await this.#db.applied(Number(results.at(-1)?.rows?.[0]?.['next_cfg'] ?? 0), APPLY_MS)
  }
}

export function observedPort(row: Row): ObservedPort {
  return {
    number: Math.max(0, numberOf(row['ofport'])),
    requested: numberOf(row['ofport_request']),
    mark: markOf(row),
    ifindex: numberOf(row['ifindex'])
  }
}

const INTERFACE_COLUMNS = [
  ...['_uuid', 'name', 'type', 'options', 'ofport', 'ofport_request', 'external_ids', 'error', 'ifindex']
]

/** `iface-id` and `attached-mac` are the names that vswitchd.conf.db(5) defines. */
function idsOf({ vni, alias, mac }: PortMark): Readonly<Record<string, string>> {
  return { ...OWNER, 'iface-id': alias, 'attached-mac': mac, 'vxmesh-vni': String(vni) }
}

/** Only ports of containers and routers have a mark: neither the tunnel port nor the bridge's internal port does. */
function markOf(row: Row): PortMark | null {
  const ids = fromMap(row['external_ids'])
  const vni = Number(ids['vxmesh-vni'] ?? '0')
  if (!isOurs(row) || !Number.isInteger(vni) || vni <= 0) return null
  return { vni: vni as Vni, alias: ids['iface-id'] ?? '', mac: ids['attached-mac'] ?? '' }
}

export function isOurs(row: Row): boolean {
  return fromMap(row['external_ids'])['owner'] === OWNER.owner
}

function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : 0
}

function select(table: string, where: readonly unknown[], columns?: readonly string[]): Operation {
  return { op: 'select', table, where, ...(columns === undefined ? {} : { columns }) }
}

function mutate(table: string, where: readonly unknown[], mutation: readonly unknown[]): Operation {
  return { op: 'mutate', table, where, mutations: [mutation] }
}

function is(row: Row): unknown {
  return ['_uuid', '==', row['_uuid']]
}

function insertPort(name: string, row: Row): readonly Operation[] {
  const port = { name: row['name'], interfaces: ['named-uuid', `${name}_interface`] }
  return [
    { op: 'insert', table: 'Interface', row, 'uuid-name': `${name}_interface` },
    { op: 'insert', table: 'Port', row: port, 'uuid-name': name }
  ]
}
