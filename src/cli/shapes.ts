// The columns of each kind of result, and the details of a single one.

import { labelTexts } from '#model/labels.ts'
import { formatRate } from '#model/quantity.ts'
import {
  ENDPOINT_SETTING_NAMES,
  ENDPOINT_SETTINGS,
  type EndpointSettings,
  type Setting,
  type SettingKind
} from '#model/settings.ts'
import { formatPort, MAX_BACKENDS } from '#model/service.ts'
import type {
  DoctorView,
  EndpointView,
  HostView,
  KvEntryView,
  MemberView,
  NamespaceView,
  NetworkView,
  RaftPeerView,
  ReloadView,
  ServiceView,
  SnapshotView,
  StatusView
} from '#model/views.ts'
import { facts, printable, table, type Column } from './output.ts'

export const MEMBER_COLUMNS: readonly Column<MemberView>[] = [
  ['NAME', r => r.name],
  ['ADDRESS', r => r.address],
  ['STATUS', r => r.status],
  ['ROLE', r => r.role],
  ['VTEP', r => r.vtep],
  ['PEER ID', r => shortPeerId(r.peerId)]
]

export const NETWORK_COLUMNS: readonly Column<NetworkView>[] = [
  ['NAME', r => r.name],
  ['VNI', r => `${r.vni}`],
  ['SUBNET', r => r.subnets.join(' '), r => compact(r.subnets)],
  ['GATEWAY', r => r.gateways.join(' '), r => compact(r.gateways)],
  ['MTU', r => `${r.mtu}`],
  ['EGRESS', egressText],
  ['ENDPOINTS', r => `${r.endpoints}`]
]

export function networksTable(rows: readonly NetworkView[], width?: number): string {
  return table(NETWORK_COLUMNS, rows, width)
}

export function networkFacts(r: NetworkView): string {
  return facts([
    ['name', r.name],
    ['vni', `${r.vni}`],
    ...r.subnets.map((subnet, at) => ['subnet', `${subnet} via ${r.gateways[at] ?? ''}`] as const),
    ['mtu', `${r.mtu}`],
    ['egress', egressText(r)],
    ['host access', r.hostAccess ? 'yes' : 'no'],
    ['endpoints', `${r.endpoints}`]
  ])
}

export const ENDPOINT_COLUMNS: readonly Column<EndpointView>[] = [
  ['NETWORK', r => r.network],
  ['CONTAINER', r => short(r.containerId)],
  ['NAME', r => short(r.name)],
  ['IFNAME', r => r.ifname],
  ['HOST', r => r.host],
  ['ADDRESS', r => r.addresses.join(' '), r => compact(r.addresses)],
  ['RX', r => bytes(r.rxBytes)],
  ['TX', r => bytes(r.txBytes)]
]

export function endpointFacts(rows: readonly EndpointView[]): string {
  return rows
    .map(r =>
      facts([
        ['container', r.containerId],
        ['name', r.name],
        ['interface', `${r.ifname} (on ${r.host}: ${r.hostInterface})`],
        ['network', `${r.network}, vni ${r.vni}`],
        ...r.addresses.map((address, at) => ['address', `${address} via ${r.gateways[at] ?? ''}`] as const),
        ['mac', r.mac],
        ['mtu', `${r.mtu}`],
        ...(r.dns === null
          ? []
          : [['names', `${r.dns.nameservers.join(' ')}, search ${r.dns.search.join(' ')}`] as const]),
        ...settingPairs(r),
        ...labelTexts(r.labels).map((text, at) => [at === 0 ? 'labels' : '', text] as const),
        ['received', `${count(r.rxBytes)} bytes, ${count(r.rxPackets)} packets, ${measured(r.rxRate)}`],
        ['sent', `${count(r.txBytes)} bytes, ${count(r.txPackets)} packets, ${measured(r.txRate)}`]
      ])
    )
    .join('\n')
}

export const SERVICE_COLUMNS: readonly Column<ServiceView>[] = [
  ['NETWORK', r => r.network],
  ['NAME', r => r.name],
  ['ADDRESS', r => r.addresses.join(' ') || '-', r => compact(r.addresses) || '-'],
  ['PORTS', r => r.ports.map(formatPort).join(' ')],
  ['BACKENDS', r => (r.select ?? r.backends ?? []).join(' '), r => compact(r.select ?? r.backends ?? [])],
  ['ENDPOINTS', usedEndpoints]
]

/** How many of them get connections is said where that is not all. */
function usedEndpoints(r: ServiceView): string {
  const isTooMany = r.endpoints > MAX_BACKENDS && r.addresses.length > 0
  return isTooMany ? `${r.endpoints}, ${MAX_BACKENDS} in use` : `${r.endpoints}`
}

export function serviceFacts(r: ServiceView): string {
  const { select, backends } = r
  return facts([
    ['name', r.name],
    ['network', r.network],
    ...(r.addresses.length === 0 ? ['none: headless'] : r.addresses).map(text => ['address', text] as const),
    ...r.ports.map(port => ['port', formatPort(port)] as const),
    ...(select ?? []).map((text, at) => [at === 0 ? 'select' : '', text] as const),
    ...(backends ?? []).map((text, at) => [at === 0 ? 'backends' : '', text] as const),
    ['affinity', r.affinitySeconds === 0 ? 'none' : `${r.affinitySeconds} s`],
    ['endpoints', usedEndpoints(r)]
  ])
}

export const NAMESPACE_COLUMNS: readonly Column<NamespaceView>[] = [
  ['NAMESPACE', r => r.namespace],
  ['NETWORK', r => r.network],
  ['GRANTS', r => r.grants.join(' ')]
]

export function namespacesTable(rows: readonly NamespaceView[], width?: number): string {
  return table(NAMESPACE_COLUMNS, rows, width)
}

export const HOST_COLUMNS: readonly Column<HostView>[] = [
  ['NAME', r => r.name],
  ['VTEP', r => r.vtep],
  ['ROLE', r => r.role],
  ['STATUS', r => r.status],
  ['ENDPOINTS', r => `${r.endpoints}`],
  ['VERSION', r => r.version],
  ['PEER ID', r => shortPeerId(r.peerId)]
]

export function hostsTable(rows: readonly HostView[], width?: number): string {
  return table(HOST_COLUMNS, rows, width)
}

export function raftPeersTable(rows: readonly RaftPeerView[], width?: number): string {
  return table(
    [
      ['NAME', r => r.name],
      ['ADDRESS', r => r.address],
      ['STATE', r => r.state],
      ['VOTER', r => (r.voter ? 'yes' : 'no')],
      ['MATCH INDEX', r => count(r.matchIndex)],
      ['PEER ID', r => shortPeerId(r.peerId)]
    ],
    rows,
    width
  )
}

export function kvTable(rows: readonly KvEntryView[], width?: number): string {
  return table(
    [
      ['KEY', r => r.key],
      ['VALUE', r => summary(r.value)]
    ],
    rows,
    width
  )
}

export function kvFacts({ key, value }: KvEntryView): string {
  const pairs = Object.entries(value).map(([name, inner]) => [name, plain(inner)] as const)
  return facts([['key', key] as const, ...pairs])
}

export function snapshotFacts(s: SnapshotView): string {
  return facts([
    ['file', s.file],
    ['bytes', `${s.bytes}, form ${s.version}`],
    ['cluster', s.cluster],
    ['index', `${s.index}, term ${s.term}`],
    ['digest', s.digest],
    ['servers', s.servers.join(' ')],
    ['hosts', `${s.hosts}`],
    ['networks', `${s.networks}`],
    ['endpoints', `${s.endpoints}`],
    ['namespaces', `${s.namespaces}`],
    ['services', `${s.services}`],
    ['policies', `${s.policies}`]
  ])
}

export function reloadFacts({ changed, restart }: ReloadView): string {
  const rows = Object.entries({ changed, restart }).filter(([, keys]) => keys.length > 0)
  if (rows.length === 0) return 'nothing has changed\n'
  return facts(rows.map(([name, keys]) => [name, keys.join(', ')]))
}

const MARKS = { failed: '!', warning: '?', ok: ' ' } as const

/** One line per finding, followed by its advice. */
export function doctorText({ host, failed, findings }: DoctorView, width = Infinity): string {
  const many = (level: string): number => findings.filter(finding => finding.level === level).length
  const indent = 4 + Math.max(...findings.map(({ id }) => id.length), 0)
  const lines = findings.flatMap(({ id, level, found, todo }) => {
    const texts = [found, todo].filter(text => text !== '').flatMap(text => wrapped(printable(text), width - indent))
    return texts.map(
      (text, at) => `${at === 0 ? `${MARKS[level]} ${printable(id)}`.padEnd(indent) : ' '.repeat(indent)}${text}`
    )
  })
  const warnings = many('warning')
  const head = `${printable(host)}: ${failed} failed, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}, ${many('ok')} ok`
  return [head, ...lines].map(line => `${line}\n`).join('')
}

/** Wraps text between words; a word longer than the width stays whole. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

/** Problems first. */
export function statusFacts(s: StatusView): string {
  const { raft, members, overlay } = s
  const problems = [
    ...(s.trouble === null ? [] : [s.trouble]),
    ...(s.ready ? [] : ['this host is not ready']),
    ...(raft.leader === null ? ['no leader is known: changes are not possible'] : []),
    ...(members.failed > 0 ? [`${members.failed} members have failed: vxmesh members`] : []),
    ...(s.differsAt === null
      ? []
      : [`the state differs from the leader’s since log index ${s.differsAt}: report this`]),
    ...overlay.degraded.map(text => `degraded: ${text}`)
  ]
  const pairs: (readonly [string, string])[] = [
    ...problems.map(text => ['!', text] as const),
    ['host', `${s.host} (${s.peerId})`],
    ['cluster', s.cluster ?? 'none yet'],
    ['version', s.version],
    ['ready', s.ready ? 'yes' : 'no'],
    ['raft', `${raft.role}, term ${raft.term}, leader ${raft.leader ?? 'unknown'}`],
    ['log', `applied ${raft.appliedIndex} of ${raft.commitIndex} committed`],
    ['members', `${members.alive} alive, ${members.failed} failed`],
    ['networks', `${s.networks}`],
    ['endpoints', `${s.endpoints}`],
    ['overlay', `${overlay.driver}, guard ${overlay.guard}, drift ${overlay.drift}`],
    ...(overlay.noPrograms === null ? [] : [['no eBPF', overlay.noPrograms] as const]),
    ...(overlay.noServices === null ? [] : [['services', `do not work here: ${overlay.noServices}`] as const])
  ]
  return facts(pairs)
}

/** A value on one line; `kv get` shows all of it. */
function summary(value: KvEntryView['value']): string {
  const all = (...names: string[]): string =>
    names
      .filter(name => name in value)
      .map(name => plain(value[name]))
      .join(' ')
  if ('set' in value) return `${plain(value['used'])} of ${plain(value['size'])} used`
  if ('containerId' in value) return all('address', 'address6', 'host')
  if ('subnet' in value) return all('vni', 'subnet', 'subnet6')
  if ('vtep' in value) return all('vtep', 'role')
  return plain(value['network'])
}

/** Text unchanged, a list of runs as 1-5 9-9, anything else as JSON. */
function plain(value: unknown): string {
  if (typeof value === 'string') return value
  const isRun = (run: unknown): run is readonly unknown[] => Array.isArray(run) && run.length === 2
  if (Array.isArray(value) && value.every(isRun)) return value.map(run => run.map(String).join('-')).join(' ')
  return JSON.stringify(value)
}

/** Each setting, and the value that the kernel enforces if it differs. */
function settingPairs(row: EndpointView): (readonly [label: string, value: string])[] {
  const installed: Partial<EndpointSettings> = row.installed ?? {}
  return ENDPOINT_SETTING_NAMES.map(name => {
    const { label, kind } = ENDPOINT_SETTINGS[name]
    const actual = installed[name] ?? row[name]
    const text = settingText(kind, row[name])
    return [label, actual === row[name] ? text : `${text} (installed: ${settingText(kind, actual)})`]
  })
}

function settingText(kind: SettingKind, value: Setting['fallback']): string {
  switch (kind) {
    case 'rate':
      return formatRate(Number(value))
    case 'delay':
      return `${value} us`
    case 'mtu':
    case 'flag':
    case 'egressV6':
      return `${value}`
  }
}

/** A measured rate, to three significant digits. */
function measured(bitsPerSecond: number | null): string {
  return bitsPerSecond === null ? '-' : bitsPerSecond === 0 ? '0bit' : formatRate(Number(bitsPerSecond.toPrecision(3)))
}

function egressText({ egress, egressRate }: NetworkView): string {
  return egress ? formatRate(egressRate) : 'none'
}

/** The first of some addresses, and how many more there are. */
function compact(addresses: readonly string[]): string {
  const [first = '', ...more] = addresses
  return more.length === 0 ? first : `${first} +${more.length}`
}

function count(value: number | null): string {
  return value === null ? '-' : `${value}`
}

/** Bytes in at most four digits: 67156 is 65K. */
function bytes(value: number | null): string {
  if (value === null) return '-'
  const power = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), UNITS.length - 1)
  return `${Math.floor(value / 1024 ** power)}${UNITS[power] ?? ''}`
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P']

function short(id: string): string {
  return id.length > 16 ? `${id.slice(0, 15)}~` : id
}

/** The end of a peer id: all Ed25519 ids begin alike. `-o json` has the whole id. */
function shortPeerId(id: string): string {
  return id.length > 8 ? `~${id.slice(-8)}` : id
}
