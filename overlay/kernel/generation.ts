// The rule set of a namespace. One request to the kernel tells whether any program has changed a rule since.

import { VxmeshError } from '#model/errors.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { listTable, type Netns } from './nft.ts'
import { decodeGeneration, getGeneration, NFNETLINK } from '../netlink/nftables.ts'

/** As nft lists it in JSON, or null when there is none. @throws ERR_KERNEL when nft could not be run */
export async function readTable(netns: Netns, table: { family: string; name: string }): Promise<string | null> {
  try {
    return await listTable(netns, table)
  } catch (err) {
    if (err instanceof VxmeshError && err.context['exitCode'] !== undefined) return null
    throw err
  }
}

/** Grows with each change of any rule of the namespace; null when the kernel does not tell it. @throws ERR_NETNS, ERR_KERNEL */
export function readGeneration(netns: Netns): number | null {
  const socket = NetlinkSocket.open(netns, [], NFNETLINK)
  try {
    return requestGeneration(socket)
  } finally {
    socket.close()
  }
}

/** The same over a socket that is open. @throws ERR_KERNEL */
export function requestGeneration(socket: NetlinkSocket): number | null {
  const [answer] = socket.request(getGeneration(), 'read the generation of the rules')
  return answer === undefined ? null : decodeGeneration(answer)
}
