// Encodes traffic control requests (tcmsg): qdiscs, and the filter that redirects everything a device receives. Pure.

import { Writer, type Message } from './bytes.ts'
import * as k from './constants.ts'
import * as tc from './tc-constants.ts'

export type TbfSpec = {
  readonly kind: 'tbf'
  /** bits/s of whole Ethernet frames. */
  readonly rate: number
  /**
   * Bytes. The kernel segments a larger GSO packet on arrival. A change to less than the size of a packet already queued
   * blocks the queue for ever: recreate the inner queue then.
   */
  readonly burst: number
  /** Capacity of the inner queue in bytes. */
  readonly limit: number
}

export type FifoSpec = { readonly kind: 'bfifo'; readonly limit: number }

export type FqCodelSpec = {
  readonly kind: 'fq_codel'
  readonly targetUs: number
  readonly intervalUs: number
  /** Capacity in packets. */
  readonly limit: number
  /** Number of flow queues. Fixed at creation: not part of a change. */
  readonly flows: number
}

/** `limit`: capacity in packets, delayed ones included. */
export type NetemSpec = { readonly kind: 'netem'; readonly delayUs: number; readonly limit: number }

export type QdiscSpec = TbfSpec | FifoSpec | FqCodelSpec | NetemSpec

export type QdiscPlace = { readonly ifindex: number; readonly parent: number; readonly handle: number }

/** The kernel's number for a handle such as `1:0`. */
export function handleOf(major: number, minor = 0): number {
  return ((major << 16) | minor) >>> 0
}

/** Creates a qdisc, or replaces the existing one, whose queued packets are dropped. */
export function replaceQdisc(place: QdiscPlace, spec: QdiscSpec): Message {
  return qdisc(place, spec).message(tc.RTM_NEWQDISC, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

/** Changes the settings of the qdisc with this handle and kind; queued packets are kept. */
export function changeQdisc(place: QdiscPlace, spec: QdiscSpec): Message {
  return qdisc(place, spec, false).message(tc.RTM_NEWQDISC, 0)
}

export function deleteQdisc(place: QdiscPlace): Message {
  return tcmsg(place).message(tc.RTM_DELQDISC, 0)
}

const clsact = (ifindex: number): QdiscPlace => ({ ifindex, parent: tc.TC_H_CLSACT, handle: tc.CLSACT_HANDLE })

/** Adds clsact, the anchor of filters, to a device. Fails with EEXIST when there is one. */
export function createClsact(ifindex: number): Message {
  return tcmsg(clsact(ifindex))
    .attributeText(tc.TCA_KIND, 'clsact')
    .message(tc.RTM_NEWQDISC, k.NLM_F_CREATE | k.NLM_F_EXCL)
}

/** Deletes clsact with all its filters. */
export function deleteClsact(ifindex: number): Message {
  return deleteQdisc(clsact(ifindex))
}

/** Dump request for the qdiscs of all devices: the kernel cannot filter this dump. */
export function getQdiscs(): Message {
  return tcmsg({ ifindex: 0, parent: 0, handle: 0 }).message(tc.RTM_GETQDISC, 0)
}

/** Reads one qdisc by its parent, or by its handle with parent 0. Fails with ENOENT when there is none. */
export function getQdisc(place: QdiscPlace): Message {
  return tcmsg(place).message(tc.RTM_GETQDISC, tc.NLM_F_ECHO)
}

export type RedirectSpec = {
  readonly ifindex: number
  /** 1 to 65,535; filters with a lower priority are tried first. */
  readonly priority: number
  /** Ifindex of the device that the packets are redirected to. */
  readonly target: number
}

/**
 * Redirects everything that a device receives to the egress of another. Uses u32 with one match-all key, for kernels
 * without the matchall classifier. Needs clsact or ingress.
 */
export function addRedirect({ ifindex, priority, target }: RedirectSpec): Message {
  // struct tc_u32_sel: flags, offset shift, number of keys, padding, zeros; then one key: mask, value, offsets.
  const sel = new Uint8Array(32)
  sel[0] = tc.U32_TERMINAL
  sel[2] = 1
  // struct tc_mirred: index, capabilities, action, reference count, bind count, mirred action, ifindex.
  const mirred = new Uint8Array(new Uint32Array([0, 0, tc.TC_ACT_STOLEN, 0, 0, tc.TCA_EGRESS_REDIR, target]).buffer)
  return filters({ ifindex, parent: tc.TC_H_INGRESS_FILTERS, priority })
    .attributeText(tc.TCA_KIND, 'u32')
    .nested(tc.TCA_OPTIONS, options =>
      options
        .attribute(tc.TCA_U32_SEL, sel)
        .nested(tc.TCA_U32_ACT, actions =>
          actions.nested(1, action =>
            action
              .attributeText(tc.TCA_ACT_KIND, 'mirred')
              .nested(tc.TCA_ACT_OPTIONS, inner => inner.attribute(tc.TCA_MIRRED_PARMS, mirred))
          )
        )
    )
    .message(tc.RTM_NEWTFILTER, k.NLM_F_CREATE | k.NLM_F_EXCL)
}

export type ProgramFilterSpec = {
  readonly ifindex: number
  /** Does it run on what the device sends, and not on what it receives? */
  readonly sends?: boolean
  readonly priority: number
  /** Descriptor of a loaded program. */
  readonly program: number
  /** Shown by tc(8). */
  readonly name: string
}

/** The only filter of its priority. */
const PROGRAM_HANDLE = 1

type ProgramFilterPlace = Pick<ProgramFilterSpec, 'ifindex' | 'sends' | 'priority'>

function programFilter({ ifindex, priority, sends = false }: ProgramFilterPlace): Writer {
  const parent = sends ? tc.TC_H_EGRESS_FILTERS : tc.TC_H_INGRESS_FILTERS
  return filters({ ifindex, parent, priority }, PROGRAM_HANDLE)
}

/** Runs a program on everything that a device receives or sends, instead of the one before, without a gap. Needs clsact. */
export function setProgramFilter({ program, name, ...place }: ProgramFilterSpec): Message {
  return programFilter(place)
    .attributeText(tc.TCA_KIND, 'bpf')
    .nested(tc.TCA_OPTIONS, options =>
      options
        .attributeU32(tc.TCA_BPF_FD, program)
        .attributeText(tc.TCA_BPF_NAME, name)
        .attributeU32(tc.TCA_BPF_FLAGS, tc.TCA_BPF_FLAG_ACT_DIRECT)
    )
    .message(tc.RTM_NEWTFILTER, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

/** Reads the program filter of a priority. Fails with ENOENT when there is none, with EINVAL without clsact. */
export function getProgramFilter(place: ProgramFilterPlace): Message {
  return programFilter(place).attributeText(tc.TCA_KIND, 'bpf').message(tc.RTM_GETTFILTER, tc.NLM_F_ECHO)
}

/** Deletes the program filter of a priority, and no other one of it. Fails with ENOENT when there is none. */
export function deleteProgramFilter(place: ProgramFilterPlace): Message {
  return programFilter(place).message(tc.RTM_DELTFILTER, 0)
}

/** Deletes all filters of one priority. Fails with ENOENT when there is none. */
export function deleteFilters(p: { ifindex: number; parent: number; priority: number }): Message {
  return filters(p).message(tc.RTM_DELTFILTER, 0)
}

/** Dump request for the filters of a device under one parent. */
export function getFilters(p: { ifindex: number; parent: number }): Message {
  return tcmsg({ ...p, handle: 0 }).message(tc.RTM_GETTFILTER, 0)
}

function qdisc(place: QdiscPlace, spec: QdiscSpec, made = true): Writer {
  const writer = tcmsg(place).attributeText(tc.TCA_KIND, spec.kind)
  switch (spec.kind) {
    case 'tbf':
      return tbf(writer, spec)
    case 'bfifo':
      return writer.attributeU32(tc.TCA_OPTIONS, spec.limit)
    case 'fq_codel':
      return writer.nested(tc.TCA_OPTIONS, options => {
        options
          .attributeU32(tc.TCA_FQ_CODEL_TARGET, spec.targetUs)
          .attributeU32(tc.TCA_FQ_CODEL_INTERVAL, spec.intervalUs)
          .attributeU32(tc.TCA_FQ_CODEL_LIMIT, spec.limit)
        // The kernel refuses it in a change, even with the same number.
        if (made) options.attributeU32(tc.TCA_FQ_CODEL_FLOWS, spec.flows)
      })
    case 'netem':
      return netem(writer, spec)
  }
}

/** struct tc_tbf_qopt: rate, peak rate (struct tc_ratespec, 12 bytes each), limit, buffer, MTU. */
function tbf(writer: Writer, { rate, burst, limit }: TbfSpec): Writer {
  const bytesPerSecond = Math.round(rate / 8)
  const qopt = new DataView(new ArrayBuffer(36))
  qopt.setUint8(1, tc.LINKLAYER_ETHERNET)
  qopt.setUint32(8, Math.min(bytesPerSecond, 0xffffffff), true)
  qopt.setUint32(24, limit, true)
  return writer.nested(tc.TCA_OPTIONS, options => {
    options.attribute(tc.TCA_TBF_PARMS, new Uint8Array(qopt.buffer)).attributeU32(tc.TCA_TBF_BURST, burst)
    if (bytesPerSecond > 0xffffffff) options.attribute(tc.TCA_TBF_RATE64, u64(bytesPerSecond))
  })
}

/** struct tc_netem_qopt (latency in ticks, limit, loss, gap, duplicate, jitter), then the exact latency in ns. */
function netem(writer: Writer, { delayUs, limit }: NetemSpec): Writer {
  const ns = delayUs * 1000
  const ticks = Math.round(ns / tc.NS_PER_TICK)
  return writer.nested(tc.TCA_OPTIONS, options =>
    options.u32(ticks).u32(limit).u32(0).u32(0).u32(0).u32(0).attribute(tc.TCA_NETEM_LATENCY64, u64(ns))
  )
}

/** tcm_info: the priority in the upper half, the protocol in network order in the lower. */
function filters(p: { ifindex: number; parent: number; priority: number }, handle = 0): Writer {
  const protocol = (tc.ETH_P_ALL << 8) & 0xffff
  return tcmsg({ ...p, handle }, handleOf(p.priority, protocol))
}

/** struct tcmsg: family, padding, ifindex, handle, parent, info. */
function tcmsg(place: QdiscPlace, info = 0): Writer {
  return new Writer().u32(k.AF_UNSPEC).u32(place.ifindex).u32(place.handle).u32(place.parent).u32(info)
}

function u64(value: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(value)]).buffer)
}
