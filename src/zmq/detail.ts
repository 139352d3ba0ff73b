// ConnDetail: JSON text for what the fixed fields of the paper's struct cannot express. Pure.

import { invalid } from '#model/errors.ts'
import { parseIfName, parseNetworkName, type IfName, type NetworkName } from '#model/ids.ts'
import { FAMILIES, parseIp, type Ip } from '#model/ip.ts'
import { parseLabelChanges, parseLabels, type LabelChanges, type Labels } from '#model/labels.ts'
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
  readonly labels?: Labels
}

/** Of an update: what is given is changed, and null removes a label. */
export type DetailChanges = Pick<Detail, 'ifname' | 'requestId' | 'ingressRate' | 'egressRate' | 'delayUs'> & {
  readonly labels?: LabelChanges
}

const MAX_REQUEST_ID = 256
const MAX_PATH = 4_096

type Parser = (value: unknown, field: string) => unknown

export type Parsers<T> = Readonly<Record<keyof T, Parser>>

const PARSERS: Parsers<Detail> = {
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
  requestId: parseRequestId,
  ingressRate: rate,
  egressRate: rate,
  delayUs: (value, field) => checkDelay(value as number, field),
  labels: parseLabels
}

const CHANGE_PARSERS: Parsers<DetailChanges> = {
  ifname: PARSERS.ifname,
  requestId: PARSERS.requestId,
  ingressRate: rate,
  egressRate: rate,
  delayUs: PARSERS.delayUs,
  labels: parseLabelChanges
}

/** Empty text means no fields. @throws ERR_INVALID naming the field, such as ConnDetail.mac */
export function parseDetail(json: string): Detail {
  return parseFields(json, PARSERS, 'ConnDetail')
}

/** That of an update. @throws ERR_INVALID as parseDetail does, and for a field that cannot be changed */
export function parseDetailChanges(json: string): DetailChanges {
  return parseFields(json, CHANGE_PARSERS, 'ConnDetail')
}

/** @param whole the field that the JSON is in */
export function parseFields(
  json: string,
  parsers: Readonly<Record<string, Parser>>,
  whole: string
): Readonly<Record<string, unknown>> {
  if (json === '') return {}
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (err) {
    throw invalid(whole, `is not JSON: ${err instanceof Error ? err.message : String(err)}`)
  }
  const detail: Record<string, unknown> = {}
  for (const [name, field] of Object.entries(object(value, whole))) {
    const parse = Object.hasOwn(parsers, name) ? parsers[name] : undefined
    if (parse === undefined) throw invalid(`${whole}.${name}`, whyUnknown(name, parsers))
    detail[name] = parse(field, `${whole}.${name}`)
  }
  return detail
}

/** @throws ERR_INVALID naming the field */
export function parseRequestId(value: unknown, field: string): string {
  const id = text(value, field)
  if (id === '' || id.length > MAX_REQUEST_ID) throw invalid(field, `must have 1 to ${MAX_REQUEST_ID} characters`)
  return id
}

function whyUnknown(name: string, parsers: Readonly<Record<string, Parser>>): string {
  return parsers === CHANGE_PARSERS && Object.hasOwn(PARSERS, name) ? 'cannot be changed' : 'is not a known field'
}

function rate(value: unknown, field: string): number {
  return typeof value === 'string' ? parseRate(value, field) : checkRate(value as number, field)
}

/** @throws ERR_INVALID naming the field */
export function text(value: unknown, field: string): string {
  if (typeof value !== 'string') throw invalid(field, 'must be text')
  return value
}

function object(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'must be an object')
  return value as Record<string, unknown>
}
