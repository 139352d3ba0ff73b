// One host's kernel as the driver's parts share it: its namespace, its socket and what it can do.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { errnoOf, type NetlinkSocket } from '#platform/netlink-socket.ts'
import { writeSysctls } from '#platform/netns.ts'
import type { Message } from '../netlink/bytes.ts'
import { RTM_NEWLINK } from '../netlink/constants.ts'
import { decodeLink, type LinkInfo } from '../netlink/link-info.ts'
import { getLink, setLink, type LinkRef } from '../netlink/link.ts'

export type Kernel = {
  readonly socket: NetlinkSocket
  /** Path of the host's namespace; null is the process's own. */
  readonly netns: string | null
  /** Does the kernel speak IPv6, and can it be switched off for one device? */
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

/** All links that the request's filter lets through. @throws ERR_KERNEL */
export function readLinks(socket: NetlinkSocket, request: Message): readonly LinkInfo[] {
  return socket.dump(
    request,
    (type, payload) => (type === RTM_NEWLINK ? (decodeLink(payload) ?? undefined) : undefined),
    'read links'
  )
}

/**
 * Keeps IPv6 off a device of ours before it is set up: no link-local address, and no router advertisement of a
 * container reaches the host (CVE-2020-10749). @throws ERR_KERNEL
 */
export function switchIpv6Off(kernel: Kernel, devices: readonly { ref: LinkRef; name: string }[]): void {
  if (!kernel.ipv6.present) return
  for (const { ref, name } of devices) {
    kernel.socket.request(setLink(ref, { addrGenNone: true }), `switch IPv6 address generation of ${name} off`)
  }
  if (!kernel.ipv6.sysctl) return
  writeSysctls(
    kernel.netns,
    devices.map(({ name }) => ({ key: `net/ipv6/conf/${name}/disable_ipv6`, value: '1' }))
  )
}

/** Runs and takes these errnos of the kernel for success. */
export function tolerate(errnos: readonly string[], run: () => void): void {
  try {
    run()
  } catch (err) {
    const errno = errnoOf(err)
    if (errno === null || !errnos.includes(errno)) throw err
  }
}

/** For trying things out: the kernel's words, or null when it worked. */
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
