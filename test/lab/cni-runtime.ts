// A container runtime of the lab: makes a pod's namespace and calls the plugin for it with the agent of a host.

import { callPlugin, type PluginRun } from '../cni/plugin.ts'
import type { LabContainer } from './container.ts'
import type { LabHost } from './host.ts'

export type Pod = {
  readonly container: LabContainer
  /** Its Kubernetes namespace; none: the configuration names the network. */
  readonly namespace?: string
  readonly network?: string
  readonly runtimeConfig?: object
}

export type CallOptions = {
  readonly prevResult?: unknown
  /** Instead of the container's path. */
  readonly netns?: string
  readonly onSpawn?: (kill: () => void) => void
}

/** One call of the plugin for a pod. */
export function callFor(host: LabHost, verb: string, pod: Pod, options: CallOptions = {}): Promise<PluginRun> {
  const { container, namespace, network, runtimeConfig } = pod
  const { prevResult, netns = container.netns, onSpawn } = options
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace ?? ''};K8S_POD_NAME=${container.name}`
  const env = {
    CNI_CONTAINERID: container.name,
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    ...(namespace === undefined ? {} : { CNI_ARGS: args })
  }
  const config = { cniVersion: '1.1.0', name: 'lab', type: 'vxmesh', socket: host.socket, network }
  const input = { ...config, runtimeConfig, prevResult }
  return callPlugin(verb, { input, env, ...(onSpawn === undefined ? {} : { onSpawn }) })
}

/** The address, without its prefix length, that ADD gave. @throws Error with what the plugin said */
export async function addPod(host: LabHost, pod: Pod): Promise<{ readonly address: string; readonly result: object }> {
  const { exitCode, json } = await callFor(host, 'ADD', pod)
  const [ip] = (json?.['ips'] ?? []) as { address: string }[]
  if (exitCode !== 0 || ip === undefined || json === null) throw new Error(`ADD: ${JSON.stringify(json)}`)
  return { address: ip.address.split('/')[0] ?? '', result: json }
}

/** @throws Error with what the plugin said */
export async function delPod(host: LabHost, pod: Pod): Promise<void> {
  const { exitCode, stdout } = await callFor(host, 'DEL', pod)
  if (exitCode !== 0) throw new Error(`DEL: ${stdout}`)
}

/** Puts our plugin where a runtime looks. `network`: that of all containers, else by namespace. */
export async function installCni(
  host: LabHost,
  places: { readonly bin: string; readonly conf: string },
  network?: string
): Promise<void> {
  const named = network === undefined ? [] : ['--network', network]
  await host.cliJson('cni', 'install', '--bin-dir', places.bin, '--conf-dir', places.conf, ...named)
}
