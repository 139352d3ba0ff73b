// The settings of networks and endpoints: fields that the caller chooses and the state machine stores as given. Command
// parser, API schemas, views, events, command line and digest derive from these tables. A new setting of an existing kind
// is an entry at the end of a table, a field in allocator/rows.ts (and plain-state.ts), and the code that acts on it.

import { invalid } from './errors.ts'
import { flag, wholeNumber, type Fields } from './fields.ts'
import { quote } from './ids.ts'
import { checkDelay, checkMtu, checkRate } from './quantity.ts'

/** How IPv6 leaves a host: from the host's own address, or from the container's, to which others must then know a route. */
export const EGRESS_V6 = ['nat', 'routed'] as const
export type EgressV6 = (typeof EGRESS_V6)[number]

/** The value of each kind: a rate is in bits/s, a delay in microseconds, an MTU in bytes. */
export type KindValues = {
  readonly rate: number
  readonly delay: number
  readonly mtu: number
  readonly flag: boolean
  readonly egressV6: EgressV6
}
export type SettingKind = keyof KindValues

export type Setting = {
  readonly kind: SettingKind
  /** Its value when the caller gives none. */
  readonly fallback: KindValues[SettingKind]
  /** Absent in rows while it has that value, and in commands that do not name it: versions that do not know it never meet it. */
  readonly isSparse?: true
  /** Whether it can be changed later. */
  readonly changeable: boolean
  /** Option of the command line, and its help. */
  readonly option: string
  readonly help: string
  /** Its name in `vxmesh endpoint show`. */
  readonly label?: string
}

export type Settings = Readonly<Record<string, Setting>>

// Digests and snapshots take settings in the order of these tables.

export const NETWORK_SETTINGS = {
  /** Limit of the network's traffic to the outside, bits/s; 0 is unlimited. */
  egressRate: {
    kind: 'rate',
    fallback: 0,
    changeable: true,
    option: '--egress-rate <rate>',
    help: 'limit of traffic to the outside, such as 100mbit'
  },
  /** MTU of the containers' interfaces in bytes; 0 follows each host's underlay. */
  mtu: {
    kind: 'mtu',
    fallback: 0,
    changeable: false,
    option: '--mtu <bytes>',
    help: 'default: the MTU of the underlay less the encapsulation'
  },
  /** Whether containers reach the outside through the gateway. */
  egress: {
    kind: 'flag',
    fallback: true,
    changeable: false,
    option: '--no-egress',
    help: 'no access to the outside'
  },
  /** Whether a host reaches its own endpoints of this network (kubelet probes). */
  hostAccess: {
    kind: 'flag',
    fallback: false,
    changeable: false,
    option: '--host-access',
    help: 'let each host reach its own endpoints (kubelet probes)'
  },
  /** Whether IPv6 to the outside is translated; it needs the rules BOTH_FAMILIES. */
  egressV6: {
    kind: 'egressV6',
    fallback: 'nat',
    isSparse: true,
    changeable: true,
    option: '--egress-v6 <mode>',
    help: 'nat: IPv6 leaves from the host’s address; routed: from the container’s (default: nat)'
  }
} as const satisfies Settings

/** What traffic control enforces. */
export const SHAPING_SETTINGS = {
  /** Into the container, bits/s; 0 is unlimited. */
  ingressRate: {
    kind: 'rate',
    fallback: 0,
    changeable: true,
    option: '--ingress-rate <rate>',
    help: 'limit of traffic into the container, such as 10mbit',
    label: 'ingress'
  },
  /** Out of the container, bits/s; 0 is unlimited. */
  egressRate: {
    kind: 'rate',
    fallback: 0,
    changeable: true,
    option: '--egress-rate <rate>',
    help: 'limit of traffic out of the container',
    label: 'egress'
  },
  /** Added in each direction, microseconds. */
  delayUs: {
    kind: 'delay',
    fallback: 0,
    changeable: true,
    option: '--delay <time>',
    help: 'delay added in each direction, such as 10ms',
    label: 'delay'
  }
} as const satisfies Settings

export const ENDPOINT_SETTINGS = { ...SHAPING_SETTINGS } as const satisfies Settings

type SparseKeys<T extends Settings> = { [K in keyof T]: T[K] extends { isSparse: true } ? K : never }[keyof T]

/** The values of a table's settings. */
export type ValuesOf<T extends Settings> = {
  readonly [K in Exclude<keyof T, SparseKeys<T>>]: KindValues[T[K]['kind']]
} & { readonly [K in SparseKeys<T>]?: KindValues[T[K]['kind']] }
export type ChangesOf<T extends Settings> = Partial<{
  readonly [K in keyof T as T[K]['changeable'] extends true ? K : never]: KindValues[T[K]['kind']]
}>

export type NetworkSettings = ValuesOf<typeof NETWORK_SETTINGS>
/** What an update gives: only that is changed. */
export type NetworkChanges = ChangesOf<typeof NETWORK_SETTINGS>
export type EndpointSettings = ValuesOf<typeof ENDPOINT_SETTINGS>
export type EndpointChanges = ChangesOf<typeof ENDPOINT_SETTINGS>

export const NETWORK_SETTING_NAMES: readonly (keyof NetworkSettings)[] = namesOf(NETWORK_SETTINGS)
export const ENDPOINT_SETTING_NAMES: readonly (keyof EndpointSettings)[] = namesOf(ENDPOINT_SETTINGS)

export const NETWORK_DEFAULTS: NetworkSettings = defaultsOf(NETWORK_SETTINGS)
export const ENDPOINT_DEFAULTS: EndpointSettings = defaultsOf(ENDPOINT_SETTINGS)

const CHECKS: { readonly [K in SettingKind]: (fields: Fields, key: string) => KindValues[K] } = {
  rate: (fields, key) => checkRate(wholeNumber(fields, key), key),
  delay: (fields, key) => checkDelay(wholeNumber(fields, key), key),
  mtu: (fields, key) => checkMtu(wholeNumber(fields, key), key),
  flag,
  egressV6: (fields, key) => parseEgressV6(fields[key], key)
}

/** @throws ERR_INVALID naming the field */
export function parseEgressV6(value: unknown, field = 'egressV6'): EgressV6 {
  const known = EGRESS_V6.find(mode => mode === value)
  if (known === undefined) throw invalid(field, `must be ${EGRESS_V6.join(' or ')}, got ${quote(String(value))}`)
  return known
}

/** All settings of a table, from a value that came from outside. @throws ERR_INVALID naming the field */
export function parseSettings<T extends Settings>(table: T, fields: Fields): ValuesOf<T> {
  // Without intermediate lists: every row of a snapshot passes here.
  const values: Record<string, Setting['fallback']> = {}
  for (const name in table) {
    const setting = table[name]
    if (setting === undefined) continue
    const isAbsent = setting.isSparse === true && (fields[name] === undefined || fields[name] === null)
    if (!isAbsent) values[name] = CHECKS[setting.kind](fields, name)
  }
  return values as unknown as ValuesOf<T>
}

/** The changeable settings that are present. @throws ERR_INVALID naming the field */
export function parseChanges<T extends Settings>(table: T, fields: Fields): ChangesOf<T> {
  const present = changeableOf(table).filter(([name]) => fields[name] !== undefined && fields[name] !== null)
  return Object.fromEntries(present.map(([name, { kind }]) => [name, CHECKS[kind](fields, name)])) as ChangesOf<T>
}

/** The settings of a row or command, without its other fields. */
export function settingsOf<T extends Settings>(table: T, row: ValuesOf<T>): ValuesOf<T> {
  // Without intermediate lists: each event and each row of a snapshot passes here.
  const values: Record<string, unknown> = {}
  const all: Readonly<Record<string, unknown>> = row
  for (const name in table) if (all[name] !== undefined) values[name] = all[name]
  return values as ValuesOf<T>
}

/** The changes that a command holds, without its other fields. */
export function changesOf<T extends Settings>(table: T, command: ChangesOf<T>): ChangesOf<T> {
  const values: Readonly<Record<string, unknown>> = command
  const present = changeableOf(table).filter(([name]) => values[name] !== undefined)
  return Object.fromEntries(present.map(([name]) => [name, values[name]])) as ChangesOf<T>
}

/** Does an update change how the endpoint's traffic is limited or delayed? */
export function changesShaping(update: EndpointChanges): boolean {
  return Object.keys(changesOf(SHAPING_SETTINGS, update)).length > 0
}

export function changeableOf(table: Settings): readonly (readonly [name: string, setting: Setting])[] {
  return Object.entries(table).filter(([, { changeable }]) => changeable)
}

/** The result of a function for each setting of a table. */
export function mapSettings<T extends Settings, R>(
  table: T,
  map: (setting: Setting) => R
): { readonly [K in keyof T]: R } {
  return Object.fromEntries(Object.entries(table).map(([name, setting]) => [name, map(setting)])) as {
    readonly [K in keyof T]: R
  }
}

function namesOf<T extends Settings>(table: T): (keyof T)[] {
  return Object.keys(table)
}

function defaultsOf<T extends Settings>(table: T): ValuesOf<T> {
  const present = Object.entries(table).filter(([, { isSparse }]) => isSparse !== true)
  return Object.fromEntries(present.map(([name, { fallback }]) => [name, fallback])) as unknown as ValuesOf<T>
}
