// Runs nft(8) in the host's network namespace. Only for what is rare: a process costs more than a thousand messages.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { run } from '#platform/process.ts'

/** Path of a namespace, or null for the process's own. */
export type Netns = string | null

/** All of a script as one transaction: it happens or nothing does. @throws ERR_KERNEL with nft's words */
export async function runNft(netns: Netns, script: string, doing: string): Promise<void> {
  // In nft's own language: with JSON it reopens its input by path, which a socket does not allow.
  await nft(netns, { args: ['-f', '-'], input: script, doing })
}

/** The table in nft's JSON. @throws ERR_KERNEL when there is none */
export async function listTable(netns: Netns, { family, name }: { family: string; name: string }): Promise<string> {
  return nft(netns, { args: ['-j', 'list', 'table', family, name], input: '', doing: `list ${family} ${name}` })
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
  // Its first line names the error; a copy of the whole input may follow.
  const [words = ''] = stderr.split('\n')
  throw new VxmeshError('ERR_KERNEL', `${p.doing}: ${words.slice(0, 300)}`, { context: { exitCode } })
}
