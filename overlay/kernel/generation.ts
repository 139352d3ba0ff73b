// The rules of a namespace: whether anybody changed any since is one question to the kernel.

import { VxmeshError } from '#model/errors.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { listTable, type Netns } from './nft.ts'
import { decodeGeneration, getGeneration, NFNETLINK } from '../netlink/nftables.ts'

/** As nft prints it in JSON, or null when there is none. @throws what is not nft's refusal */
export async function readTable(netns: Netns, name: string): Promise<string | null> {
  try {
    return await listTable(netns, { family: 'ip', name })
  } catch (err) {
    if (err instanceof VxmeshError && err.context['exitCode'] !== undefined) return null
    throw err
  }
}

/** Grows with every change of any rule of the namespace; null when the kernel does not say. @throws ERR_NETNS, ERR_KERNEL */
export function readGeneration(netns: Netns): number | null {
  const socket = NetlinkSocket.open(netns, [], NFNETLINK)
  try {
    const [answer] = socket.request(getGeneration(), 'read the generation of the rules')
    return answer === undefined ? null : decodeGeneration(answer)
  } finally {
    socket.close()
  }
}
