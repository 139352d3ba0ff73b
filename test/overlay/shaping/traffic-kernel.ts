// Links, qdiscs and filters of one namespace behind a netlink socket's two methods, `request` and `dump`. Requests and
// replies are real messages: what the codec encodes is decoded here, stored, and encoded as the kernel would report it.

import { VxmeshError } from '#model/errors.ts'
import { eachAttribute, readU32, viewOf, Writer, type Message } from '#overlay/netlink/bytes.ts'
import * as k from '#overlay/netlink/constants.ts'
import { decodeLink, type LinkInfo } from '#overlay/netlink/link-info.ts'
import * as tc from '#overlay/netlink/tc-constants.ts'
import { decodeFilter, decodeQdisc } from '#overlay/netlink/tc-info.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'

type Qdisc = { readonly handle: number; readonly parent: number; readonly kind: string; body: Uint8Array }
type Filter = {
  readonly ifindex: number
  readonly parent: number
  readonly priority: number
  readonly body: Uint8Array
}
type Link = Pick<LinkInfo, 'ifindex' | 'name' | 'kind' | 'alias' | 'group' | 'mtu' | 'up'>

/** struct tcmsg. */
const TC_HEADER_BYTES = 20

export class TrafficKernel {
  readonly links: Link[] = []
  /** What each request was for, in order. */
  readonly requests: string[] = []
  /** The errno of a request that the kernel refuses, by what it is for; null accepts it. */
  refuse: (doing: string) => string | null = () => null
  /** Kinds of links and qdiscs that this kernel lacks. */
  lacks: readonly string[] = []
  closed = false
  readonly #qdiscs = new Map<number, Qdisc[]>()
  #filters: Filter[] = []
  #nextIndex = 10

  get socket(): NetlinkSocket {
    return this as unknown as NetlinkSocket
  }

  addLink(link: Partial<Link> & Pick<Link, 'name'>): Link {
    const added = { kind: 'veth', alias: '', group: 0, mtu: 1450, up: true, ifindex: this.#nextIndex++, ...link }
    this.links.push(added)
    return added
  }

  removeLink(name: string): void {
    const at = this.links.findIndex(link => link.name === name)
    const [gone] = at === -1 ? [] : this.links.splice(at, 1)
    if (gone === undefined) return
    this.#qdiscs.delete(gone.ifindex)
    this.#filters = this.#filters.filter(({ ifindex }) => ifindex !== gone.ifindex)
  }

  link(name: string): Link | undefined {
    return this.links.find(link => link.name === name)
  }

  /** The link as the driver reads it. */
  info(name: string): LinkInfo {
    const link = this.link(name)
    const info = link === undefined ? null : decodeLink(encodeLink(link))
    if (info === null) throw new Error(`no link ${name}`)
    return info
  }

  kindsOn(name: string): readonly string[] {
    return (this.#qdiscs.get(this.link(name)?.ifindex ?? 0) ?? []).map(({ kind }) => kind)
  }

  close(): void {
    this.closed = true
  }

  request({ type, flags, body }: Message, doing: string): readonly Uint8Array[] {
    this.requests.push(doing)
    const refused = this.refuse(doing)
    if (refused !== null) throw errno(refused, doing)
    switch (type) {
      case k.RTM_GETLINK:
        return [encodeLink(this.#linkOf(body, doing))]
      case k.RTM_NEWLINK:
        this.#newLink(body, flags, doing)
        return []
      case tc.RTM_GETQDISC:
        return [this.#getQdisc(body, flags, doing)]
      case tc.RTM_NEWQDISC:
        this.#newQdisc(body, flags, doing)
        return []
      case tc.RTM_DELQDISC:
        this.#deleteQdisc(body, doing)
        return []
      case tc.RTM_NEWTFILTER:
        this.#newFilter(body, flags, doing)
        return []
      case tc.RTM_DELTFILTER:
        this.#deleteFilters(body, doing)
        return []
      default:
        throw errno('EOPNOTSUPP', doing)
    }
  }

  dump<T>(request: Message, decode: (type: number, payload: Uint8Array) => T | undefined, doing: string): T[] {
    this.requests.push(doing)
    const refused = this.refuse(doing)
    if (refused !== null) throw errno(refused, doing)
    const place = placeOf(request.body)
    const filters = this.#filters.filter(({ ifindex, parent }) => ifindex === place.ifindex && parent === place.parent)
    const answers: readonly (readonly [number, Uint8Array])[] =
      request.type === tc.RTM_GETQDISC
        ? [...this.#qdiscs].flatMap(([ifindex, list]) =>
            list.map(qdisc => [tc.RTM_NEWQDISC, encodeQdisc(ifindex, qdisc)] as const)
          )
        : filters.map(({ body }) => [tc.RTM_NEWTFILTER, body] as const)
    return answers.flatMap(([type, payload]) => decode(type, payload) ?? [])
  }

  #linkOf(body: Uint8Array, doing: string): Link {
    const asked = decodeLink(body)
    const link = this.links.find(({ ifindex, name }) =>
      asked?.name === '' ? ifindex === asked.ifindex : name === asked?.name
    )
    if (link === undefined) throw errno('ENODEV', doing)
    return link
  }

  #newLink(body: Uint8Array, flags: number, doing: string): void {
    const asked = decodeLink(body)
    if (asked === null) throw errno('EINVAL', doing)
    if ((flags & k.NLM_F_CREATE) !== 0) {
      if (this.link(asked.name) !== undefined) throw errno('EEXIST', doing)
      if (this.lacks.includes(asked.kind)) throw errno('ENOTSUP', doing)
      const { name, kind, group, mtu } = asked
      this.addLink({ name, kind, group, mtu, up: false })
      return
    }
    const present = new Set<number>()
    eachAttribute(body, 16, attribute => present.add(attribute))
    const link = this.#linkOf(body, doing)
    const { alias, group, mtu, up } = asked
    Object.assign(link, {
      ...(present.has(k.IFLA_IFALIAS) ? { alias } : {}),
      ...(present.has(k.IFLA_GROUP) ? { group } : {}),
      ...(present.has(k.IFLA_MTU) ? { mtu } : {}),
      ...(viewOf(body).getUint32(12, true) === 0 ? {} : { up })
    })
  }

  #getQdisc(body: Uint8Array, flags: number, doing: string): Uint8Array {
    const { ifindex, parent } = placeOf(body)
    const list = this.#qdiscs.get(ifindex) ?? []
    const found = list.find(qdisc => qdisc.parent === parent)
    if ((flags & tc.NLM_F_ECHO) === 0) throw errno('EINVAL', doing)
    if (found === undefined) throw errno(this.#hasParent(ifindex, parent) ? 'ENOENT' : 'EINVAL', doing)
    return encodeQdisc(ifindex, found)
  }

  #newQdisc(body: Uint8Array, flags: number, doing: string): void {
    const asked = decodeQdisc(body)
    if (asked === null || !this.links.some(({ ifindex }) => ifindex === asked.ifindex)) throw errno('ENODEV', doing)
    const { ifindex, handle, parent, kind } = asked
    if (this.lacks.includes(kind)) throw errno('ENOENT', doing)
    const list = this.#qdiscs.get(ifindex) ?? []
    const same = list.find(qdisc => qdisc.handle === handle)
    const reported = reportedBody(body, kind)
    if ((flags & k.NLM_F_CREATE) === 0) {
      if (same?.kind !== kind || same.parent !== parent) throw errno('ENOENT', doing)
      // A change of fq_codel does not carry the number of flows.
      same.body = kind === 'fq_codel' ? mergedOptions(same.body, reported) : reported
      return
    }
    if (same !== undefined) {
      if ((flags & k.NLM_F_EXCL) !== 0) throw errno('EEXIST', doing)
      if (same.kind !== kind || same.parent !== parent) throw errno('EINVAL', doing)
      same.body = reported
      return
    }
    if (!this.#hasParent(ifindex, parent)) throw errno('ENOENT', doing)
    this.#qdiscs.set(ifindex, [...without(list, parent), { handle, parent, kind, body: reported }])
  }

  #deleteQdisc(body: Uint8Array, doing: string): void {
    const { ifindex, handle, parent } = placeOf(body)
    const list = this.#qdiscs.get(ifindex) ?? []
    if (!list.some(qdisc => qdisc.handle === handle && qdisc.parent === parent)) throw errno('ENOENT', doing)
    this.#qdiscs.set(ifindex, without(list, parent))
    if (parent === tc.TC_H_CLSACT) this.#filters = this.#filters.filter(filter => filter.ifindex !== ifindex)
  }

  #newFilter(body: Uint8Array, flags: number, doing: string): void {
    const asked = decodeFilter(body)
    if (asked === null) throw errno('EINVAL', doing)
    const { ifindex, parent, priority } = asked
    if (!(this.#qdiscs.get(ifindex) ?? []).some(({ kind }) => kind === 'clsact')) throw errno('EINVAL', doing)
    const exists = this.#filters.some(f => f.ifindex === ifindex && f.parent === parent && f.priority === priority)
    if (exists && (flags & k.NLM_F_EXCL) !== 0) throw errno('EEXIST', doing)
    this.#filters.push({ ifindex, parent, priority, body: Uint8Array.from(body) })
  }

  #deleteFilters(body: Uint8Array, doing: string): void {
    const { ifindex, parent } = placeOf(body)
    const priority = viewOf(body).getUint32(16, true) >>> 16
    if (!(this.#qdiscs.get(ifindex) ?? []).some(({ kind }) => kind === 'clsact')) throw errno('EINVAL', doing)
    const left = this.#filters.filter(
      filter => filter.ifindex !== ifindex || filter.parent !== parent || filter.priority !== priority
    )
    if (left.length === this.#filters.length) throw errno('ENOENT', doing)
    this.#filters = left
  }

  #hasParent(ifindex: number, parent: number): boolean {
    if (parent === tc.TC_H_ROOT || parent === tc.TC_H_CLSACT) return true
    const classful = (this.#qdiscs.get(ifindex) ?? []).filter(({ kind }) => kind === 'tbf' || kind === 'netem')
    return classful.some(({ handle }) => (handle | 1) >>> 0 === parent)
  }
}

export function errno(name: string, doing: string): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `${doing}: ${name}`, { context: { errno: name } })
}

/** A deleted or replaced qdisc takes its children with it. */
function without(list: readonly Qdisc[], parent: number): Qdisc[] {
  const gone = list.filter(qdisc => qdisc.parent === parent)
  const rest = list.filter(qdisc => qdisc.parent !== parent)
  return gone.reduce((left, { handle }) => without(left, (handle | 1) >>> 0), rest)
}

function placeOf(body: Uint8Array): { ifindex: number; handle: number; parent: number } {
  const view = viewOf(body)
  return { ifindex: view.getInt32(4, true), handle: view.getUint32(8, true), parent: view.getUint32(12, true) }
}

function encodeLink({ ifindex, name, kind, alias, group, mtu, up }: Link): Uint8Array {
  const writer = new Writer()
    .u32(0)
    .u32(ifindex)
    .u32(up ? k.IFF_UP : 0)
    .u32(0)
    .attributeText(k.IFLA_IFNAME, name)
  if (alias !== '') writer.attributeText(k.IFLA_IFALIAS, alias)
  return writer
    .attributeU32(k.IFLA_GROUP, group)
    .attributeU32(k.IFLA_MTU, mtu)
    .nested(k.IFLA_LINKINFO, info => info.attributeText(k.IFLA_INFO_KIND, kind))
    .message(0, 0).body
}

function encodeQdisc(ifindex: number, { handle, parent, body }: Qdisc): Uint8Array {
  const reply = Uint8Array.from(body)
  const view = viewOf(reply)
  view.setUint32(4, ifindex, true)
  view.setUint32(8, handle, true)
  view.setUint32(12, parent, true)
  return reply
}

/** The kernel reports a burst as its transmission time, in whole ticks; everything else as it was set. */
function reportedBody(body: Uint8Array, kind: string): Uint8Array {
  const reply = Uint8Array.from(body)
  if (kind !== 'tbf') return reply
  eachAttribute(reply, TC_HEADER_BYTES, (type, options) => {
    if (type !== tc.TCA_OPTIONS) return
    let burst = 0
    let rate: number | null = null
    eachAttribute(options, 0, (inner, value) => {
      if (inner === tc.TCA_TBF_BURST) burst = readU32(value) ?? 0
      else if (inner === tc.TCA_TBF_RATE64) rate = Number(viewOf(value).getBigUint64(0, true))
    })
    eachAttribute(options, 0, (inner, value) => {
      if (inner !== tc.TCA_TBF_PARMS) return
      const view = viewOf(value)
      const bytesPerSecond = rate ?? view.getUint32(8, true)
      view.setUint32(28, Math.floor((burst * 1e9) / bytesPerSecond / tc.NS_PER_TICK), true)
    })
  })
  return reply
}

/** The first body with the options of the second that are in both. */
function mergedOptions(before: Uint8Array, after: Uint8Array): Uint8Array {
  const merged = Uint8Array.from(before)
  const changed = new Map<number, Uint8Array>()
  const optionsOf = (bytes: Uint8Array, visit: (type: number, value: Uint8Array) => void): void =>
    eachAttribute(bytes, TC_HEADER_BYTES, (type, options) => {
      if (type === tc.TCA_OPTIONS) eachAttribute(options, 0, visit)
    })
  optionsOf(after, (type, value) => changed.set(type, value))
  optionsOf(merged, (type, value) => value.set(changed.get(type) ?? value))
  return merged
}
