// The configuration of a CNI call. The version is read first, so that even an error answers in that version's format;
// then the keys that the verbs need. Unknown keys belong to other plugins or the runtime and are ignored.

import * as z from 'zod'
import { asAddresses } from '#model/addresses.ts'
import { asVxmeshError } from '#model/errors.ts'
import { endpointKey, type EndpointKey } from '#model/endpoint.ts'
import {
  parseContainerId,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  type NamespaceName,
  type NetworkName
} from '#model/ids.ts'
import { parseIp, type Ip } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import { isEmpty, labelsOfPairs, parseLabels, parseLabelText, type Labels } from '#model/labels.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import { checkRate, parseDelay } from '#model/quantity.ts'
import { ENDPOINT_DEFAULTS, type EndpointSettings } from '#model/settings.ts'
import type { CniArgs } from './call.ts'
import { CniError } from './error.ts'
import { isVersion, VERSIONS, type CniVersion } from './versions.ts'

const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
const ATTACHMENTS = 'cni.dev/valid-attachments'
/** Annotations by which a pod chooses its network, delay and labels. */
export const NETWORK_ANNOTATION = 'vxmesh.io/network'
export const DELAY_ANNOTATION = 'vxmesh.io/delay'
export const LABELS_ANNOTATION = 'vxmesh.io/labels'

const fields = z.looseObject({})
const request = z.looseObject({ ips: z.array(z.string()).nullish(), mac: z.string().nullish() })
/** CONVENTIONS, "args in network config". */
const labelList = z.array(z.looseObject({ key: z.string(), value: z.string() }))

const prevResult = z.looseObject({
  interfaces: z.array(z.looseObject({ name: z.string() })).nullish(),
  ips: z.array(z.looseObject({ address: z.string(), interface: z.int().min(0).nullish() })).nullish(),
  routes: z.array(z.looseObject({ dst: z.string() })).nullish(),
  dns: fields.nullish()
})

const body = z.looseObject({
  name: z
    .string()
    .regex(
      /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/,
      'must start with a letter or digit and contain only letters, digits and "_.-"'
    ),
  network: z.string().nullish(),
  args: z.looseObject({ cni: z.looseObject({ ...request.shape, labels: labelList.nullish() }).nullish() }).nullish(),
  runtimeConfig: z
    .looseObject({
      ...request.shape,
      bandwidth: z.record(z.string(), z.number()).nullish(),
      [ANNOTATIONS]: z.record(z.string(), z.string()).nullish()
    })
    .nullish(),
  dns: fields.nullish(),
  prevResult: prevResult.nullish(),
  [ATTACHMENTS]: z.array(z.looseObject({ containerID: z.string(), ifname: z.string() })).nullish()
})

export type CniConfig = z.output<typeof body>
export type PrevResult = z.output<typeof prevResult>

/** The configuration as an object. @throws CniError undecodable */
export function readConfig(text: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (err) {
    throw new CniError('undecodable', 'the configuration is not JSON', err instanceof Error ? err.message : '')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CniError('undecodable', 'the configuration is not a JSON object')
  }
  return value as Readonly<Record<string, unknown>>
}

/** @throws CniError version */
export function versionOf(config: Readonly<Record<string, unknown>>): CniVersion {
  const { cniVersion } = config
  if (isVersion(cniVersion)) return cniVersion
  const given = typeof cniVersion === 'string' ? cniVersion.slice(0, 32) : 'none'
  throw new CniError('version', `cniVersion: must be one of ${VERSIONS.join(', ')}`, `got ${given}`)
}

/** @throws CniError config, naming the key */
export function checkConfig(config: Readonly<Record<string, unknown>>): CniConfig {
  const result = body.safeParse(config)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new CniError('config', `${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'is invalid'}`)
}

/** The network that the configuration names. @throws CniError config */
export function networkOf({ network }: CniConfig): NetworkName | undefined {
  // A template with an unset variable leaves an empty string.
  return network === undefined || network === null || network === ''
    ? undefined
    : inConfig(() => parseNetworkName(network, 'network'))
}

/** The pod's Kubernetes namespace. @throws CniError environment */
export function namespaceOf(args: CniArgs): NamespaceName | undefined {
  const { K8S_POD_NAMESPACE: text = '' } = args
  if (text === '') return undefined
  try {
    return parseNamespaceName(text, 'CNI_ARGS: K8S_POD_NAMESPACE')
  } catch (err) {
    throw new CniError('environment', asVxmeshError(err).message)
  }
}

export type Requested = EndpointSettings & {
  readonly address?: Ip
  readonly address6?: Ipv6
  readonly mac?: Mac
  readonly labels?: Labels
}

/** The requested addresses, one of each family at most, MAC, rates, delay and labels. runtimeConfig takes precedence over the configuration's args, and those over CNI_ARGS. */
export function requestedOf(config: CniConfig, args: CniArgs): Requested {
  const { runtimeConfig, args: own } = config
  const ips = runtimeConfig?.ips ?? own?.cni?.ips ?? (args.IP === undefined ? [] : args.IP.split(','))
  const mac = runtimeConfig?.mac ?? own?.cni?.mac ?? args.MAC
  const delay = annotationOf(config, DELAY_ANNOTATION)
  return inConfig(() => {
    const rate = (field: 'ingressRate' | 'egressRate'): number =>
      checkRate(valueOf(runtimeConfig?.bandwidth ?? {}, field) ?? 0, `bandwidth.${field}`)
    const labels = labelsIn(config, args)
    return {
      ...asAddresses(
        ips.map(text => parseIp(text.split('/')[0] ?? '', 'ips')),
        'ips'
      ),
      ...(mac === undefined || mac === '' ? {} : { mac: parseMac(mac) }),
      ...ENDPOINT_DEFAULTS,
      ingressRate: rate('ingressRate'),
      egressRate: rate('egressRate'),
      delayUs: delay === undefined ? 0 : parseDelay(delay, DELAY_ANNOTATION),
      ...(isEmpty(labels) ? {} : { labels })
    }
  })
}

/**
 * The labels of all three places: where they differ about one, the annotation takes precedence over the configuration's args, and
 * those over CNI_ARGS. @throws ERR_INVALID naming the place
 */
function labelsIn(config: CniConfig, args: CniArgs): Labels {
  const pairs = (config.args?.cni?.labels ?? []).map(({ key, value }) => [key, value] as const)
  return parseLabels({
    ...parseLabelText(args.VXMESH_LABELS ?? '', 'CNI_ARGS: VXMESH_LABELS'),
    ...parseLabels(labelsOfPairs(pairs, 'args.cni.labels'), 'args.cni.labels'),
    ...parseLabelText(annotationOf(config, LABELS_ANNOTATION) ?? '', LABELS_ANNOTATION)
  })
}

/** The network that the pod chooses by annotation. @throws CniError config */
export function chosenNetwork(config: CniConfig): NetworkName | undefined {
  const text = annotationOf(config, NETWORK_ANNOTATION)
  return text === undefined ? undefined : inConfig(() => parseNetworkName(text, NETWORK_ANNOTATION))
}

/** The attachments that the runtime considers valid. @throws CniError config */
export function attachmentsOf(config: CniConfig): ReadonlySet<EndpointKey> {
  const list = config[ATTACHMENTS]
  // To treat a missing list as empty would release everything.
  if (list === undefined || list === null) throw new CniError('config', `${ATTACHMENTS}: is missing`)
  return inConfig(() => {
    const keys = list.map(({ containerID, ifname }) =>
      endpointKey(parseContainerId(containerID, ATTACHMENTS), parseIfName(ifname, ATTACHMENTS))
    )
    return new Set(keys)
  })
}

/** Looks a key up regardless of case: containerd writes `IngressRate`, since Go's decoder ignores case. */
function valueOf(fields: Readonly<Record<string, number>>, key: string): number | undefined {
  return Object.entries(fields).find(([name]) => name.toLowerCase() === key.toLowerCase())?.[1]
}

function annotationOf({ runtimeConfig }: CniConfig, name: string): string | undefined {
  const annotations = runtimeConfig?.[ANNOTATIONS] ?? {}
  return Object.hasOwn(annotations, name) ? annotations[name] : undefined
}

function inConfig<T>(parse: () => T): T {
  try {
    return parse()
  } catch (err) {
    throw new CniError('config', asVxmeshError(err).message)
  }
}
