// Runs nft(8) in a network namespace. For rare changes only: a process costs more than a thousand netlink messages.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { run } from '#platform/process.ts'

/** Path of a namespace, or null for the process's own. */
export type Netns = string | null

/** The script is one transaction. @throws ERR_KERNEL with nft's message */
export async function runNft(netns: Netns, script: string, doing: string): Promise<void> {
  // Not in JSON: for that nft reopens its input by path, which fails for a socket.
  await nft(netns, { args: ['-f', '-'], input: script, doing })
}

/** The table in nft's JSON. @throws ERR_KERNEL when there is none */
export async function listTable(netns: Netns, { family, name }: { family: string; name: string }): Promise<string> {
  return nft(netns, { args: ['-j', 'list', 'table', family, name], input: '', doing: `list ${family} ${name}` })
}

/** Every table in nft's JSON, each as listTable gives it. @throws ERR_KERNEL */
export async function listRules(netns: Netns): Promise<string> {
  return nft(netns, { args: ['-j', 'list', 'ruleset'], input: '', doing: 'list the rules' })
}

/** Every chain of every table in nft's JSON. @throws ERR_KERNEL */
export async function listChains(netns: Netns): Promise<string> {
  return nft(netns, { args: ['-j', 'list', 'chains'], input: '', doing: 'list chains' })
}

async function nft(netns: Netns, p: { args: readonly string[]; input: string; doing: string }): Promise<string> {
  const [file, args] = netns === null ? ['nft', p.args] : ['nsenter', [`--net=${netns}`, 'nft', ...p.args]]
  let result: Awaited<ReturnType<typeof run>>
  try {
    result = await run(file, args, { input: p.input })
  } catch (err) {
    throw new VxmeshError('ERR_KERNEL', `${p.doing}: ${asVxmeshError(err).message}`, { cause: err })
  }
  const { exitCode, stdout, stderr } = result
  if (exitCode === 0) return stdout
  // The first line is the error; a copy of the whole input may follow.
  const [message = ''] = stderr.split('\n')
  throw new VxmeshError('ERR_KERNEL', `${p.doing}: ${message.slice(0, 300)}`, { context: { exitCode } })
}
