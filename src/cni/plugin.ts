// The verbs of the CNI specification: parses each call, calls the agent, and translates the answer into CNI's format.
// Makes no decisions about networks.

import type { AgentPort } from '#model/agent-port.ts'
import type { NetworkName } from '#model/ids.ts'
import { isIpv4, parseSubnet, subnetSize } from '#model/ip.ts'
import { VxmeshError } from '#model/errors.ts'
import { MAX_TEXT } from '#model/fields.ts'
import type { NetworkView } from '#model/views.ts'
import { argsOf, containerIdOf, ifnameOf, netnsOf, readCall, type CniArgs, type CniCall } from './call.ts'
import {
  attachmentsOf,
  checkConfig,
  chosenNetwork,
  namespaceOf,
  networkOf,
  readConfig,
  versionOf,
  requestedOf,
  type CniConfig
} from './config.ts'
import { asCniError, CNI_CODES, CniError } from './error.ts'
import { addResult, compareResult } from './result.ts'
import { isVerb, knows, NEWEST, VERSIONS, type CniVersion, type Verb } from './versions.ts'

/** The part of the agent that the verbs use. */
export type CniPort = Pick<
  AgentPort,
  | 'status'
  | 'networkShow'
  | 'namespaceNetwork'
  | 'endpointAttach'
  | 'endpointDetach'
  | 'endpointCheck'
  | 'endpointCollect'
>

/** The text for standard output, which is a result if `ok` and an error object otherwise. */
export type CniAnswer = { readonly ok: boolean; readonly text: string }

type Call = {
  readonly version: CniVersion
  readonly config: CniConfig
  readonly variables: CniCall['variables']
}

/** Carries out one call. Never rejects. */
export async function answerCall(agent: CniPort, carried: Uint8Array): Promise<CniAnswer> {
  let version: CniVersion = NEWEST
  try {
    const { command, variables, config: text } = readCall(carried)
    if (!isVerb(command))
      throw new CniError('environment', 'CNI_COMMAND: must be ADD, DEL, CHECK, GC, STATUS or VERSION')
    const config = readConfig(text)
    if (command === 'VERSION') return result({ cniVersion: config['cniVersion'], supportedVersions: VERSIONS })
    version = versionOf(config)
    if (!knows(version, command)) throw new CniError('version', `cniVersion: ${version} has no ${command}`)
    return await VERBS[command](agent, { version, config: checkConfig(config), variables })
  } catch (thrown) {
    const { code, message, details } = asCniError(thrown)
    const error = { cniVersion: version, code: CNI_CODES[code], msg: message, details }
    return { ok: false, text: JSON.stringify(error) }
  }
}

const VERBS: Readonly<Record<Exclude<Verb, 'VERSION'>, (agent: CniPort, call: Call) => Promise<CniAnswer>>> = {
  ADD: add,
  DEL: del,
  CHECK: check,
  GC: collect,
  STATUS: status
}

async function add(agent: CniPort, { version, config, variables }: Call): Promise<CniAnswer> {
  const [containerId, netns, ifname] = [containerIdOf(variables), netnsOf(variables), ifnameOf(variables)]
  const args = argsOf(variables)
  const requested = requestedOf(config, args)
  const network = await networkFor(agent, config, args)
  const name = nameOf(args)
  const endpoint = await agent.endpointAttach({
    network,
    containerId,
    ifname,
    name,
    netns,
    ...requested,
    // CNI forbids repeating ADD.
    exclusive: true
  })
  const { egress } = await agent.networkShow(network)
  return result(addResult({ version, config, endpoint, egress, netns }))
}

/** Succeeds even if the interface, namespace or network no longer exists. */
async function del(agent: CniPort, { variables }: Call): Promise<CniAnswer> {
  const [containerId, ifname] = [containerIdOf(variables), ifnameOf(variables)]
  try {
    await agent.endpointDetach(containerId, ifname)
  } catch (err) {
    if (!(err instanceof VxmeshError) || err.code !== 'ERR_ENDPOINT_NOT_FOUND') throw err
  }
  return NOTHING
}

async function check(agent: CniPort, { config, variables }: Call): Promise<CniAnswer> {
  const [containerId, netns, ifname] = [containerIdOf(variables), netnsOf(variables), ifnameOf(variables)]
  const endpoint = await agent.endpointCheck(containerId, ifname, netns)
  compareResult({ previous: config.prevResult, endpoint })
  return NOTHING
}

async function collect(agent: CniPort, { config }: Call): Promise<CniAnswer> {
  await agent.endpointCollect(attachmentsOf(config))
  return NOTHING
}

/**
 * Whether a container can be attached now, from local knowledge only. Attached containers keep their connectivity without
 * a leader, so the answer is never "limited connectivity" (51).
 */
async function status(agent: CniPort, { config }: Call): Promise<CniAnswer> {
  const { ready, raft } = await agent.status()
  if (!ready) throw new CniError('unavailable', 'the agent is not ready: it has not joined a cluster yet')
  if (raft.leader === null) throw new CniError('unavailable', 'no leader is known: no container can be attached')
  const network = networkOf(config)
  if (network !== undefined) await requireRoom(agent, network)
  return NOTHING
}

async function requireRoom(agent: CniPort, name: NetworkName): Promise<void> {
  let network: NetworkView
  try {
    network = await agent.networkShow(name)
  } catch (err) {
    throw new CniError('unavailable', asCniError(err).message)
  }
  const subnet = parseSubnet(network.subnet)
  // No container has the network or gateway address or, with IPv4, the broadcast address.
  if (network.endpoints < subnetSize(subnet) - (isIpv4(subnet.base) ? 3 : 2)) return
  throw new CniError('unavailable', `network ${name} has no free address`)
}

/** The configuration's network; otherwise the one that the pod chose, or that of its namespace. */
async function networkFor(agent: CniPort, config: CniConfig, args: CniArgs): Promise<NetworkName> {
  const configured = networkOf(config)
  if (configured !== undefined) return configured
  const namespace = namespaceOf(args)
  if (namespace === undefined) {
    throw new CniError('config', 'network: is missing, and CNI_ARGS names no K8S_POD_NAMESPACE')
  }
  const chosen = chosenNetwork(config)
  return chosen === undefined ? agent.namespaceNetwork(namespace) : agent.namespaceNetwork(namespace, chosen)
}

/** The endpoint's display name: that of the pod. */
function nameOf({ K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: pod }: CniArgs): string {
  return [namespace, pod]
    .filter(part => part !== undefined && part !== '')
    .join('/')
    .slice(0, MAX_TEXT)
}

const NOTHING: CniAnswer = { ok: true, text: '' }

function result(value: object): CniAnswer {
  return { ok: true, text: JSON.stringify(value) }
}
