// ConnDetail: JSON text for what the fixed fields of the paper's struct cannot express. Pure.

import { invalid } from '#model/errors.ts'
import { parseIfName, parseNetworkName, type IfName, type NetworkName } from '#model/ids.ts'
import { FAMILIES, parseIp, type Ip } from '#model/ip.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import { checkDelay, checkRate, parseRate } from '#model/quantity.ts'

export type Detail = {
  readonly network?: NetworkName
  readonly ifname?: IfName
  readonly mac?: Mac
  readonly netns?: string
  /** One of each family at most, beside RequestIP. */
  readonly addresses?: readonly Ip[]
  readonly gateway?: Ip
  readonly requestId?: string
  /** bits/s */
  readonly ingressRate?: number
  readonly egressRate?: number
  readonly delayUs?: number
  /** The caller's labels: returned in the answer, not stored. */
  readonly labels?: Readonly<Record<string, string>>
}

const MAX_REQUEST_ID = 256
const MAX_PATH = 4_096
/** Of all labels, names included, in characters: answers echo them to every subscriber. */
const MAX_LABELS = 1_024

type Parser = (value: unknown, field: string) => unknown

const PARSERS: Readonly<Record<keyof Detail, Parser>> = {
  network: (value, field) => parseNetworkName(text(value, field), field),
  ifname: (value, field) => parseIfName(text(value, field), field),
  mac: (value, field) => parseMac(text(value, field), field),
  netns: (value, field) => {
    const path = text(value, field)
    if (!path.startsWith('/') || path.length > MAX_PATH) throw invalid(field, 'must be an absolute path')
    return path
  },
  addresses: (value, field) => {
    if (!Array.isArray(value) || value.length > FAMILIES.length)
      throw invalid(field, 'must be a list of one address of each family at most')
    return value.map(address => parseIp(text(address, field), field))
  },
  gateway: (value, field) => parseIp(text(value, field), field),
  requestId: (value, field) => {
    const id = text(value, field)
    if (id === '' || id.length > MAX_REQUEST_ID) throw invalid(field, `must have 1 to ${MAX_REQUEST_ID} characters`)
    return id
  },
  ingressRate: rate,
  egressRate: rate,
  delayUs: (value, field) => checkDelay(value as number, field),
  labels: (value, field) => {
    const pairs = object(value, field)
    const sizes = Object.entries(pairs).map(([name, label]) => name.length + text(label, `${field}.${name}`).length)
    if (sizes.reduce((sum, size) => sum + size, 0) > MAX_LABELS)
      throw invalid(field, `must have at most ${MAX_LABELS} characters in all`)
    return pairs
  }
}

/** Empty text means no fields. @throws ERR_INVALID naming the field, such as ConnDetail.mac */
export function parseDetail(json: string): Detail {
  if (json === '') return {}
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (err) {
    throw invalid('ConnDetail', `is not JSON: ${err instanceof Error ? err.message : String(err)}`)
  }
  const detail: Partial<Record<keyof Detail, unknown>> = {}
  for (const [name, field] of Object.entries(object(value, 'ConnDetail'))) {
    if (!isKnown(name)) throw invalid(`ConnDetail.${name}`, 'is not a known field')
    detail[name] = PARSERS[name](field, `ConnDetail.${name}`)
  }
  return detail as Detail
}

function isKnown(name: string): name is keyof Detail {
  return Object.hasOwn(PARSERS, name)
}

function rate(value: unknown, field: string): number {
  return typeof value === 'string' ? parseRate(value, field) : checkRate(value as number, field)
}

function text(value: unknown, field: string): string {
  if (typeof value !== 'string') throw invalid(field, 'must be text')
  return value
}

function object(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'must be an object')
  return value as Record<string, unknown>
}
