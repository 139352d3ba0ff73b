// Decodes qdiscs (RTM_NEWQDISC) and filters (RTM_NEWTFILTER). Malformed or truncated input never throws: settings that
// cannot be read are null. Pure.

import { attributesOf, readText, readU32, viewOf } from './bytes.ts'
import * as tc from './tc-constants.ts'
import type { FifoSpec, FqCodelSpec, NetemSpec, TbfSpec } from './tc.ts'

/** `spec` is null for a kind that we do not use, and for settings that we never make. */
export type QdiscInfo = {
  readonly ifindex: number
  readonly handle: number
  readonly parent: number
  readonly kind: string
  readonly spec: TbfSpec | FifoSpec | FqCodelSpec | NetemSpec | null
}

export type FilterInfo = {
  readonly ifindex: number
  readonly parent: number
  readonly priority: number
  readonly kind: string
  /** Ifindex of the device to which it redirects all packets; 0 when that device is gone; null for any other filter. */
  readonly redirectAll: number | null
  /** The program that decides, with the name that the filter was given; null for any other filter. */
  readonly program: { readonly id: number; readonly name: string } | null
}

const HEADER_BYTES = 20
const EMPTY = new Uint8Array()

/** The device of a notification about a qdisc or a filter; null when it is too short to name one. */
export function decodeTrafficControl(payload: Uint8Array): number | null {
  return payload.length < HEADER_BYTES ? null : viewOf(payload).getInt32(4, true)
}

/** Decodes the payload of an RTM_NEWQDISC; null when it is too short to be one. */
export function decodeQdisc(payload: Uint8Array): QdiscInfo | null {
  if (payload.length < HEADER_BYTES) return null
  const view = viewOf(payload)
  const found = attributesOf(payload, HEADER_BYTES)
  const kind = readText(found.get(tc.TCA_KIND) ?? EMPTY)
  return {
    ifindex: view.getInt32(4, true),
    handle: view.getUint32(8, true),
    parent: view.getUint32(12, true),
    kind,
    spec: decodeSpec(kind, found.get(tc.TCA_OPTIONS) ?? EMPTY)
  }
}

/** Decodes the payload of an RTM_NEWTFILTER; null when it is too short, or a u32 header entry without a selector. */
export function decodeFilter(payload: Uint8Array): FilterInfo | null {
  if (payload.length < HEADER_BYTES) return null
  const view = viewOf(payload)
  const found = attributesOf(payload, HEADER_BYTES)
  const kind = readText(found.get(tc.TCA_KIND) ?? EMPTY)
  const options = attributesOf(found.get(tc.TCA_OPTIONS) ?? EMPTY)
  if (kind === 'u32' && !options.has(tc.TCA_U32_SEL)) return null
  return {
    ifindex: view.getInt32(4, true),
    parent: view.getUint32(12, true),
    priority: view.getUint32(16, true) >>> 16,
    kind,
    program: kind === 'bpf' ? programOf(options) : null,
    redirectAll: kind === 'u32' && matchesAll(options.get(tc.TCA_U32_SEL) ?? EMPTY) ? redirectOf(options) : null
  }
}

function programOf(options: ReadonlyMap<number, Uint8Array>): FilterInfo['program'] {
  return {
    id: readU32(options.get(tc.TCA_BPF_ID) ?? EMPTY) ?? 0,
    name: readText(options.get(tc.TCA_BPF_NAME) ?? EMPTY)
  }
}

function decodeSpec(kind: string, options: Uint8Array): QdiscInfo['spec'] {
  switch (kind) {
    case 'tbf':
      return decodeTbf(options)
    case 'bfifo': {
      const limit = readU32(options)
      return limit === null ? null : { kind, limit }
    }
    case 'fq_codel':
      return decodeFqCodel(options)
    case 'netem':
      return decodeNetem(options)
    default:
      return null
  }
}

function decodeTbf(options: Uint8Array): TbfSpec | null {
  const found = attributesOf(options)
  const qopt = found.get(tc.TCA_TBF_PARMS)
  if (qopt === undefined || qopt.length < 36) return null
  const view = viewOf(qopt)
  const bytesPerSecond = readU64(found.get(tc.TCA_TBF_RATE64)) ?? view.getUint32(8, true)
  // The kernel stores the burst as its transmission time.
  const bufferNs = view.getUint32(28, true) * tc.NS_PER_TICK
  return {
    kind: 'tbf',
    rate: bytesPerSecond * 8,
    burst: Math.round((bufferNs * bytesPerSecond) / 1e9),
    limit: view.getUint32(24, true)
  }
}

function decodeFqCodel(options: Uint8Array): FqCodelSpec | null {
  const found = attributesOf(options)
  const at = (type: number): number => readU32(found.get(type) ?? EMPTY) ?? -1
  const spec: FqCodelSpec = {
    kind: 'fq_codel',
    targetUs: at(tc.TCA_FQ_CODEL_TARGET),
    intervalUs: at(tc.TCA_FQ_CODEL_INTERVAL),
    limit: at(tc.TCA_FQ_CODEL_LIMIT),
    flows: at(tc.TCA_FQ_CODEL_FLOWS)
  }
  return Object.values(spec).includes(-1) ? null : spec
}

/** Null also when it adds loss, duplicates or jitter: we never do. */
function decodeNetem(options: Uint8Array): NetemSpec | null {
  if (options.length < 24) return null
  const view = viewOf(options)
  const [loss, gap, duplicate, jitter] = [8, 12, 16, 20].map(at => view.getUint32(at, true))
  if (loss !== 0 || gap !== 0 || duplicate !== 0 || jitter !== 0) return null
  const ns = readU64(attributesOf(options, 24).get(tc.TCA_NETEM_LATENCY64))
  const delayNs = ns ?? view.getUint32(0, true) * tc.NS_PER_TICK
  return { kind: 'netem', delayUs: Math.round(delayNs / 1000), limit: view.getUint32(4, true) }
}

/** Does a struct tc_u32_sel match every packet? Then all its keys have a zero mask. */
function matchesAll(sel: Uint8Array): boolean {
  const keys = sel[2] ?? 0
  if (sel.length < 16 + keys * 16) return false
  return Array.from({ length: keys }, (_, i) => viewOf(sel).getUint32(16 + i * 16, true)).every(mask => mask === 0)
}

function redirectOf(options: ReadonlyMap<number, Uint8Array>): number | null {
  const actions = attributesOf(options.get(tc.TCA_U32_ACT) ?? EMPTY)
  const [only] = actions.values()
  if (only === undefined || actions.size !== 1) return null
  const action = attributesOf(only)
  const mirred = attributesOf(action.get(tc.TCA_ACT_OPTIONS) ?? EMPTY).get(tc.TCA_MIRRED_PARMS)
  if (readText(action.get(tc.TCA_ACT_KIND) ?? EMPTY) !== 'mirred' || mirred === undefined || mirred.length < 28) {
    return null
  }
  const view = viewOf(mirred)
  const redirects = view.getInt32(8, true) === tc.TC_ACT_STOLEN && view.getInt32(20, true) === tc.TCA_EGRESS_REDIR
  return redirects ? view.getUint32(24, true) : null
}

function readU64(value: Uint8Array | undefined): number | null {
  return value === undefined || value.length < 8 ? null : Number(viewOf(value).getBigUint64(0, true))
}
