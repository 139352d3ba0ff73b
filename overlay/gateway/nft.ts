// Rules are nft's business; whether anybody changed any since is one question to the kernel.

import { VxmeshError } from '#model/errors.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { run } from '#platform/process.ts'
import { attributesOf, viewOf, Writer } from '../netlink/bytes.ts'

/** NETLINK_NETFILTER. */
const NFNETLINK = 12
/** NFNL_SUBSYS_NFTABLES and NFT_MSG_GETGEN (linux/netfilter/nf_tables.h). */
const GET_GENERATION = (10 << 8) | 16
const NFTA_GEN_ID = 1

/** All of the text happens or nothing. @throws ERR_KERNEL with nft's words */
export async function loadRules(netns: string | null, text: string): Promise<void> {
  const { exitCode, stderr } = await nft(netns, ['-f', '-'], text)
  if (exitCode !== 0) throw new VxmeshError('ERR_KERNEL', `nft: ${stderr.trim()}`)
}

/** The table as nft prints it in JSON, or null when there is none. */
export async function listTable(netns: string | null, name: string): Promise<string | null> {
  const { exitCode, stdout } = await nft(netns, ['-j', 'list', 'table', 'ip', name])
  return exitCode === 0 ? stdout : null
}

/** Every chain of every table in nft's JSON. @throws ERR_KERNEL with nft's words */
export async function listChains(netns: string | null): Promise<string> {
  const { exitCode, stdout, stderr } = await nft(netns, ['-j', 'list', 'chains'])
  if (exitCode !== 0) throw new VxmeshError('ERR_KERNEL', `nft: ${stderr.trim()}`)
  return stdout
}

/** Grows with every change of any rule of the namespace; null when the kernel does not say. @throws ERR_NETNS, ERR_KERNEL */
export function readGeneration(netns: string | null): number | null {
  const socket = NetlinkSocket.open(netns, [], NFNETLINK)
  try {
    // struct nfgenmsg: family, version, resource id.
    const request = new Writer().u32(0).message(GET_GENERATION, 0)
    const [answer] = socket.request(request, 'read the generation of the rules')
    const id = answer === undefined ? undefined : attributesOf(answer, 4).get(NFTA_GEN_ID)
    return id?.length === 4 ? viewOf(id).getUint32(0) : null
  } finally {
    socket.close()
  }
}

function nft(netns: string | null, args: readonly string[], input?: string): ReturnType<typeof run> {
  const options = input === undefined ? {} : { input }
  return netns === null ? run('nft', args, options) : run('nsenter', [`--net=${netns}`, '--', 'nft', ...args], options)
}
