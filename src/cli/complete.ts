// Completes a command line from commander's tree of commands. Pure: the caller asks the agent for names.

import type { Command, Option } from 'commander'

/** The kind of resource that an argument names. */
export type NameKind = 'network' | 'host' | 'container' | 'namespace' | 'service'

export type Completion =
  | { readonly kind: 'words'; readonly words: readonly (readonly [word: string, description: string])[] }
  /** Names that the agent knows and that begin with the prefix. */
  | { readonly kind: 'names'; readonly of: NameKind; readonly prefix: string }
  | { readonly kind: 'files' }

const NOTHING: Completion = { kind: 'words', words: [] }

/** The kind of a command group's `<name>` arguments. */
const OWNERS: Readonly<Record<string, NameKind>> = {
  network: 'network',
  host: 'host',
  raft: 'host',
  service: 'service'
}

/** @param words after the program's name; the last one is being typed, and may be empty */
export function complete(program: Command, words: readonly string[]): Completion {
  // Bash splits --output=json into three words.
  const line = words.filter(word => word !== '=')
  if (words.at(-1) === '=') line.push('')
  const current = line.at(-1) ?? ''
  let at = program
  let operands = 0
  let open: Option | undefined
  for (const word of line.slice(0, -1)) {
    if (open !== undefined) open = undefined
    else if (word.startsWith('-')) {
      const option = optionsOf(at).find(({ short, long }) => word === short || word === long)
      open = option !== undefined && takesValue(option) ? option : undefined
    } else {
      const inner = at.commands.find(command => command.name() === word)
      if (inner === undefined) operands += 1
      else [at, operands] = [inner, 0]
    }
  }
  if (open !== undefined) return valueOf(open, current)
  if (current.startsWith('--') && current.includes('=')) {
    const [long = '', value = ''] = current.split(/=(.*)/s)
    const option = optionsOf(at).find(one => one.long === long)
    return option === undefined ? NOTHING : valueOf(option, value, `${long}=`)
  }
  if (current.startsWith('-')) {
    return beginning(
      current,
      optionsOf(at).flatMap(({ long, description }) => (typeof long === 'string' ? [[long, description] as const] : []))
    )
  }
  const visible = at.createHelp().visibleCommands(at)
  if (visible.length > 0) {
    return beginning(
      current,
      visible.map(command => [command.name(), command.description()] as const)
    )
  }
  const known = at.registeredArguments
  const argument = known[operands] ?? (known.at(-1)?.variadic === true ? known.at(-1) : undefined)
  if (argument === undefined) return NOTHING
  const { argChoices } = argument
  if (argChoices !== undefined) {
    return beginning(
      current,
      argChoices.map(choice => [choice, ''] as const)
    )
  }
  // A name to be created cannot be completed.
  return named(argument.name(), current, at.name() === 'create' ? undefined : OWNERS[at.parent?.name() ?? ''])
}

/** The value of `--socket` on the line so far. */
export function socketIn(words: readonly string[]): string | undefined {
  const at = words.lastIndexOf('--socket')
  const value = at < 0 ? undefined : words[at + 1] === '=' ? words[at + 2] : words[at + 1]
  return value ?? words.findLast(word => word.startsWith('--socket='))?.slice('--socket='.length)
}

/** The words that begin with the prefix. */
export function beginning(
  prefix: string,
  words: readonly (readonly [word: string, description: string])[]
): Completion & { readonly kind: 'words' } {
  return { kind: 'words', words: words.filter(([word]) => word.startsWith(prefix)) }
}

function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command)
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional
}

function valueOf(option: Option, current: string, before = ''): Completion {
  // The schema validates a setting's choices; commander knows them only from the help text.
  const described = /\(one of ([\w, -]+)/.exec(option.description)?.[1]?.split(', ')
  const choices = option.argChoices ?? described
  if (choices !== undefined) {
    const words = choices.map(choice => [`${before}${choice}`, ''] as const)
    return beginning(`${before}${current}`, words)
  }
  // Shells do not complete file names after `--flag=`.
  if (before !== '') return NOTHING
  const long = option.long ?? ''
  const owner = /^--(network|grant)$/.test(long) ? 'network' : long === '--container-id' ? 'container' : undefined
  return named(
    /<(.+?)>/.exec(option.flags)?.[1] ?? '',
    current,
    owner,
    /-(file|dir)$|^--(config|netns|socket)$/.test(long)
  )
}

function named(name: string, prefix: string, owner?: NameKind, isPath = /^(file|dir|path)$/.test(name)): Completion {
  if (isPath) return { kind: 'files' }
  if (name === 'network') return { kind: 'names', of: 'network', prefix }
  if (name === 'container-id') return { kind: 'names', of: 'container', prefix }
  if (name === 'ns') return { kind: 'names', of: 'namespace', prefix }
  if (owner !== undefined && /^(name|id)$/.test(name)) return { kind: 'names', of: owner, prefix }
  return NOTHING
}
