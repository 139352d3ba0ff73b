// A CNI call as the plugin forwards it (cni/vxmesh-cni.c): NAME=VALUE of each variable, each terminated by a zero byte,
// another zero byte, then the configuration as the runtime wrote it. Validates the environment part.

import { asVxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, quote, type ContainerId, type IfName } from '#model/ids.ts'
import { CniError } from './error.ts'

export type CniCall = {
  readonly command: string
  readonly variables: Variables
  /** The plugin's standard input. */
  readonly config: string
}

type Variables = Readonly<Record<string, string | undefined>>

/** @throws CniError environment, undecodable */
export function readCall(carried: Uint8Array): CniCall {
  const variables: Record<string, string> = {}
  let at = 0
  for (;;) {
    const end = carried.indexOf(0, at)
    if (end < 0) throw new CniError('environment', 'the call is truncated before its configuration')
    if (end === at) break
    const [name = '', ...value] = decode(carried.subarray(at, end), 'environment', 'a CNI_ variable').split('=')
    variables[name] = value.join('=')
    at = end + 1
  }
  const config = decode(carried.subarray(at + 1), 'undecodable', 'the configuration')
  return { command: variables['CNI_COMMAND'] ?? '', variables, config }
}

/** @throws CniError environment, naming the variable */
export function containerIdOf(variables: Variables): ContainerId {
  return required(variables, 'CNI_CONTAINERID', parseContainerId)
}

/** @throws CniError environment, naming the variable */
export function ifnameOf(variables: Variables): IfName {
  return required(variables, 'CNI_IFNAME', parseIfName)
}

/** The path of the container's network namespace. @throws CniError environment, naming the variable */
export function netnsOf(variables: Variables): string {
  return required(variables, 'CNI_NETNS', text => {
    if (text.startsWith('/')) return text
    throw new CniError('environment', `CNI_NETNS: must be an absolute path, got ${quote(text)}`)
  })
}

/** The arguments in CNI_ARGS that this plugin knows; others need IgnoreUnknown (CONVENTIONS, "CNI_ARGS"). */
const KNOWN_ARGS = ['IgnoreUnknown', 'IP', 'MAC', 'K8S_POD_NAMESPACE', 'K8S_POD_NAME', 'VXMESH_LABELS'] as const

export type CniArgs = Readonly<Partial<Record<(typeof KNOWN_ARGS)[number], string>>>

/** `A=1;B=2`. @throws CniError environment */
export function argsOf(variables: Variables): CniArgs {
  const args: Record<string, string> = {}
  for (const pair of (variables['CNI_ARGS'] ?? '').split(';').filter(text => text !== '')) {
    const at = pair.indexOf('=')
    if (at < 1) throw new CniError('environment', `CNI_ARGS: must hold KEY=VALUE pairs, got ${quote(pair)}`)
    args[pair.slice(0, at)] = pair.slice(at + 1)
  }
  const unknown = Object.keys(args).find(key => !KNOWN_ARGS.some(known => known === key))
  if (unknown !== undefined && !/^(1|t|true)$/i.test(args['IgnoreUnknown'] ?? '')) {
    throw new CniError('environment', `CNI_ARGS: ${quote(unknown)} is not known, and IgnoreUnknown is not set`)
  }
  return args
}

function required<T>(variables: Variables, name: string, parse: (text: string, field: string) => T): T {
  const text = variables[name] ?? ''
  if (text === '') throw new CniError('environment', `${name} is missing`)
  try {
    return parse(text, name)
  } catch (err) {
    throw err instanceof CniError ? err : new CniError('environment', asVxmeshError(err).message)
  }
}

function decode(bytes: Uint8Array, code: 'environment' | 'undecodable', what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new CniError(code, `${what} is not UTF-8`)
  }
}
