// One network namespace's kernel: its socket, what it can do, and the requests that several rooms make.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { errnoOf, refusalError } from '#platform/netlink-error.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { writeSysctls } from '#platform/netns.ts'
import { decodeNetnsId, getNetnsId } from '../netlink/address.ts'
import type { Message } from '../netlink/bytes.ts'
import { RTM_NEWLINK } from '../netlink/constants.ts'
import { decodeLink, type LinkInfo } from '../netlink/link-info.ts'
import { getLink, setLink, type LinkRef } from '../netlink/link.ts'

export type Kernel = {
  readonly socket: NetlinkSocket
  /** Path of the host's namespace; null is the process's own. */
  readonly netns: string | null
  /** Does the kernel speak IPv6, and can it be disabled for one device? */
  readonly ipv6: { readonly present: boolean; readonly sysctl: boolean }
}

/** The link, or null when there is none. @throws ERR_KERNEL */
export function readLink(socket: NetlinkSocket, ref: LinkRef): LinkInfo | null {
  try {
    const [answer] = socket.request(getLink(ref), `read link ${ref}`)
    return answer === undefined ? null : decodeLink(answer)
  } catch (err) {
    if (errnoOf(err) === 'ENODEV') return null
    throw err
  }
}

/** @throws ERR_KERNEL, with errno ENODEV when there is none */
export function requireLink(socket: NetlinkSocket, name: string): LinkInfo {
  const link = readLink(socket, name)
  if (link === null) throw new VxmeshError('ERR_KERNEL', `there is no device ${name}`, { context: { errno: 'ENODEV' } })
  return link
}

/** All links that pass the request's filter. @throws ERR_KERNEL */
export function readLinks(socket: NetlinkSocket, request: Message): readonly LinkInfo[] {
  return socket.dump(
    request,
    (type, payload) => (type === RTM_NEWLINK ? (decodeLink(payload) ?? undefined) : undefined),
    'read links'
  )
}

/**
 * The netnsid by which this namespace's links refer to the namespace of their peer; null when none is assigned.
 * @throws ERR_KERNEL
 */
export function readNetnsId(socket: NetlinkSocket, netnsFd: number): number | null {
  const [answer] = socket.request(getNetnsId(netnsFd), 'read the id of a namespace')
  return answer === undefined ? null : decodeNetnsId(answer)
}

/** Are the links the two ends of one veth pair, the inner end in the namespace with this id? */
export function arePaired(outer: LinkInfo | undefined, inner: LinkInfo | undefined, netnsId: number | null): boolean {
  if (outer === undefined || inner === undefined) return false
  const ends = outer.link === inner.ifindex && inner.link === outer.ifindex && inner.kind === 'veth'
  return ends && netnsId !== null && outer.linkNetnsId === netnsId
}

/** In one batch. @throws ERR_KERNEL for the first message that the kernel refused; the ones after it were sent, too */
export function sendAll(socket: NetlinkSocket, doing: string, messages: readonly Message[]): void {
  for (const refusal of socket.batch(messages, doing)) if (refusal !== null) throw refusalError(doing, refusal)
}

/**
 * Disables IPv6 on a device of ours before it is set up: no link-local address, and no router advertisement of a
 * container reaches the host (CVE-2020-10749). @throws ERR_KERNEL
 */
export function switchIpv6Off(kernel: Kernel, devices: readonly { ref: LinkRef; name: string }[]): void {
  restrictIpv6(kernel, devices, 'off')
}

/** See ObservedDevice (plan/network/observed.ts). @throws ERR_KERNEL */
export function restrictIpv6(
  kernel: Kernel,
  devices: readonly { ref: LinkRef; name: string }[],
  to: 'off' | 'quiet'
): void {
  if (!kernel.ipv6.present) return
  for (const { ref, name } of devices) {
    kernel.socket.request(setLink(ref, { addrGenNone: true }), `switch IPv6 address generation of ${name} off`)
  }
  if (!kernel.ipv6.sysctl) return
  const values = to === 'off' ? { disable_ipv6: '1' } : { accept_ra: '0', disable_ipv6: '0' }
  writeSysctls(
    kernel.netns,
    devices.flatMap(({ name }) =>
      Object.entries(values).map(([key, value]) => ({ key: `net/ipv6/conf/${name}/${key}`, value }))
    )
  )
}

/** Runs a request; these errnos count as success. */
export function tolerate(errnos: readonly string[], run: () => void): void {
  try {
    run()
  } catch (err) {
    const errno = errnoOf(err)
    if (errno === null || !errnos.includes(errno)) throw err
  }
}

/** For the deletion of a device: absent is success. */
export async function absentIsSuccess(request: Promise<void>): Promise<void> {
  try {
    await request
  } catch (err) {
    if (errnoOf(err) !== 'ENODEV') throw err
  }
}

/** For probes: the kernel's error message, or null when it worked. */
export function attempt(run: () => unknown): string | null {
  try {
    run()
    return null
  } catch (err) {
    return asVxmeshError(err).message
  }
}

/** The error for a name that something else holds. */
export function nameTaken(name: string, holder: string): VxmeshError {
  return new VxmeshError('ERR_IFNAME_IN_USE', `ifname: ${name} ${holder}`, { field: 'ifname', context: { name } })
}
