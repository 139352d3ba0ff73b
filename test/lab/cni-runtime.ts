// The lab's container runtime: calls the CNI plugin for a pod, as a real runtime on that host would.

import { callPlugin, type PluginRun } from '../cni/plugin.ts'
import type { LabContainer } from './container.ts'
import type { LabHost } from './host.ts'

export type Pod = {
  readonly container: LabContainer
  /** Its Kubernetes namespace; without one the configuration names the network. */
  readonly namespace?: string
  readonly network?: string
  readonly runtimeConfig?: object
  /** More of CNI_ARGS, such as `VXMESH_LABELS=app=web`. */
  readonly args?: string
}

export type CallOptions = {
  readonly prevResult?: unknown
  /** Passed in place of the container's own path. */
  readonly netns?: string
  readonly onSpawn?: (kill: () => void) => void
}

/** One call of the plugin for a pod. */
export function callFor(host: LabHost, verb: string, pod: Pod, options: CallOptions = {}): Promise<PluginRun> {
  const { container, namespace, network, runtimeConfig, args: more } = pod
  const { prevResult, netns = container.netns, onSpawn } = options
  const known = namespace === undefined ? [] : [`K8S_POD_NAMESPACE=${namespace}`, `K8S_POD_NAME=${container.name}`]
  const args = [...known, ...(more === undefined ? [] : [more])]
  const env = {
    CNI_CONTAINERID: container.name,
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    ...(args.length === 0 ? {} : { CNI_ARGS: ['IgnoreUnknown=1', ...args].join(';') })
  }
  const config = { cniVersion: '1.1.0', name: 'lab', type: 'vxmesh', socket: host.socket, network }
  const input = { ...config, runtimeConfig, prevResult }
  return callPlugin(verb, { input, env, ...(onSpawn === undefined ? {} : { onSpawn }) })
}

/** @returns the address that ADD assigned, without its prefix length. @throws Error with the plugin's output */
export async function addPod(host: LabHost, pod: Pod): Promise<{ readonly address: string; readonly result: object }> {
  const { exitCode, json } = await callFor(host, 'ADD', pod)
  const [ip] = (json?.['ips'] ?? []) as { address: string }[]
  if (exitCode !== 0 || ip === undefined || json === null) throw new Error(`ADD: ${JSON.stringify(json)}`)
  return { address: ip.address.split('/')[0] ?? '', result: json }
}

/** @throws Error with the plugin's output */
export async function delPod(host: LabHost, pod: Pod): Promise<void> {
  const { exitCode, stdout } = await callFor(host, 'DEL', pod)
  if (exitCode !== 0) throw new Error(`DEL: ${stdout}`)
}

/** Installs our plugin where a runtime looks. All containers join `network`; without one the pod's namespace decides. */
export async function installCni(
  host: LabHost,
  places: { readonly bin: string; readonly conf: string },
  network?: string
): Promise<void> {
  const named = network === undefined ? [] : ['--network', network]
  await host.cliJson('cni', 'install', '--bin-dir', places.bin, '--conf-dir', places.conf, ...named)
}
