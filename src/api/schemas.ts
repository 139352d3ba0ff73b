// Schemas of the API's inputs. They produce the types of src/model; an unknown field is an error that names it.

import * as z from 'zod'
import { asAddresses, asSubnets } from '#model/addresses.ts'
import { asVxmeshError, invalid, VxmeshError } from '#model/errors.ts'
import {
  parseContainerId,
  parseIfName,
  parseNamespaceName,
  parseNetworkName,
  parseServiceName,
  parseVni
} from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { parseJoinAddress } from '#model/join-address.ts'
import { MAX_LABEL_TEXT, MAX_LABELS, parseLabelChanges, parseLabels, parseSelectorTerm } from '#model/labels.ts'
import { parseMac } from '#model/mac.ts'
import { GRANTS_MAX } from '#model/namespace.ts'
import {
  asBackends,
  asPorts,
  asSelect,
  asServiceAddresses,
  MAX_AFFINITY_SECONDS,
  MAX_BACKENDS,
  MAX_SELECT_TERMS,
  MAX_SERVICE_PORTS,
  parseBackendText,
  parsePortText,
  PROTOCOLS
} from '#model/service.ts'
import { MTU_MAX, MTU_MIN } from '#model/quantity.ts'
import { MAX_TEXT } from '#model/fields.ts'
import { checkDelay, checkRate, parseDelay, parseRate } from '#model/quantity.ts'
import {
  changeableOf,
  EGRESS_V6,
  ENDPOINT_SETTINGS,
  mapSettings,
  NETWORK_SETTINGS,
  type ChangesOf,
  type KindValues,
  type SettingKind,
  type Settings
} from '#model/settings.ts'

function parsed<T, In>(schema: z.ZodType<In>, parse: (value: In, field: string) => T): z.ZodType<T> {
  return schema.transform((value, context) => {
    try {
      return parse(value, String(context.issues.length))
    } catch (err) {
      context.addIssue({ code: 'custom', message: asVxmeshError(err).message.replace(/^[^:]+: /, '') })
      return z.NEVER
    }
  })
}

const text = z.string().max(MAX_TEXT)

/** The schema of each kind of setting. */
const INPUTS: { readonly [K in SettingKind]: z.ZodType<KindValues[K]> } = {
  rate: parsed(z.union([z.number(), text]), (value, field) =>
    typeof value === 'number' ? checkRate(value, field) : parseRate(value, field)
  ),
  delay: parsed(z.union([z.number(), text]), (value, field) =>
    typeof value === 'number' ? checkDelay(value, field) : parseDelay(value, field)
  ),
  mtu: z.number().int().min(MTU_MIN).max(MTU_MAX).or(z.literal(0)),
  flag: z.boolean(),
  egressV6: z.enum(EGRESS_V6)
}

/** All settings of a table, each with its default, if that is sent. */
function settings<T extends Settings>(
  table: T
): {
  [K in keyof T]: T[K] extends { isSparse: true }
    ? z.ZodOptional<z.ZodType<KindValues[T[K]['kind']]>>
    : z.ZodDefault<z.ZodType<KindValues[T[K]['kind']]>>
} {
  return mapSettings(table, ({ kind, fallback, isSparse }) => {
    const input: z.ZodType = INPUTS[kind]
    return isSparse === true ? input.optional().describe(`default \`${fallback}\``) : input.default(fallback)
  }) as never
}

/** The changeable settings of a table, all optional. */
function changes<T extends Settings>(
  table: T
): { [K in keyof ChangesOf<T>]-?: z.ZodOptional<z.ZodType<ChangesOf<T>[K]>> } {
  return mapSettings(Object.fromEntries(changeableOf(table)), ({ kind }) => INPUTS[kind].optional()) as never
}

const requestId = text.min(1).optional()

export const networkName = parsed(text, parseNetworkName)
export const containerId = parsed(text, parseContainerId)
export const ifname = parsed(text, parseIfName)

const ip = parsed(text, parseIp)
const subnet = parsed(text, parseSubnet)

export const networkCreateBody = z
  .strictObject({
    name: networkName,
    subnet: subnet.optional(),
    subnets: parsed(z.array(subnet).max(2), asSubnets)
      .optional()
      .describe('Instead of `subnet`: one, or one of each family'),
    gateway: ip.optional(),
    vni: parsed(z.number(), parseVni).optional(),
    ...settings(NETWORK_SETTINGS),
    requestId
  })
  .refine(body => (body.subnet === undefined) !== (body.subnets === undefined), {
    message: 'give either subnet or subnets',
    path: ['subnet']
  })
  .transform(({ subnet, subnets, ...facts }) => ({
    ...facts,
    ...(subnets ?? asSubnets(subnet === undefined ? [] : [subnet]))
  }))

/** A boolean query parameter such as `force`; absent means false. */
export const yes = z
  .enum(['true', 'false'], 'must be true or false')
  .default('false')
  .transform(text => text === 'true')

/** How many rows a page has at most. */
export const pageLimit = z
  .string()
  .regex(/^[1-9][0-9]{0,2}$|^1000$/, 'must be a whole number from 1 to 1000')
  .default('500')
  .transform(Number)
export const pageToken = z.string().min(1).max(1_024).optional().describe('`continue` of the page before')

const term = z.string().max(MAX_LABEL_TEXT)

/** Query parameter by which a list is filtered; given once or repeatedly. */
export const labelSelector = parsed(z.union([term, z.array(term).max(MAX_LABELS)]), (value, field) =>
  [value].flat().map(each => parseSelectorTerm(each, field))
)
  .optional()
  .describe('`key=value` or `key`; may be repeated: all must hold')

/** Query parameters of the key-value view; its longest keys have about 200 characters. */
export const kvPrefix = text.default('')

export const networkUpdateBody = z.strictObject({
  ...changes(NETWORK_SETTINGS),
  addSubnet: subnet.optional().describe('Of the family that the network has none of')
})

export const endpointAttachBody = z
  .strictObject({
    network: networkName,
    containerId,
    ifname: ifname.default('eth0' as z.output<typeof ifname>),
    name: text.default(''),
    netns: z.string().max(4_096).startsWith('/', 'must be an absolute path').optional(),
    pid: z.number().int().min(1).max(4_194_304).optional(),
    address: ip.optional(),
    addresses: parsed(z.array(ip).max(2), asAddresses)
      .optional()
      .describe('Instead of `address`: one of each family at most'),
    mac: parsed(text, parseMac).optional(),
    ...settings(ENDPOINT_SETTINGS),
    labels: parsed(z.record(z.string(), z.string()), parseLabels).optional(),
    requestId
  })
  .refine(body => (body.netns === undefined) !== (body.pid === undefined), {
    message: 'give either netns or pid',
    path: ['netns']
  })
  .refine(body => body.address === undefined || body.addresses === undefined, {
    message: 'give either address or addresses',
    path: ['address']
  })
  .transform(({ address, addresses, ...facts }) => ({
    ...facts,
    ...(addresses ?? asAddresses(address === undefined ? [] : [address]))
  }))

export const endpointUpdateBody = z
  .strictObject({
    ...changes(ENDPOINT_SETTINGS),
    labels: parsed(z.record(z.string(), z.string().nullable()), parseLabelChanges)
      .optional()
      .describe('Only these are changed; null removes one')
  })
  .refine(body => Object.values(body).some(value => value !== undefined), {
    message: `give at least one of ${changeableOf(ENDPOINT_SETTINGS)
      .map(([name]) => name)
      .join(', ')}, labels`
  })

export const serviceName = parsed(text, parseServiceName)

const portNumber = z.number().int().min(1).max(65_535)
const port = z
  .strictObject({
    protocol: z.enum(PROTOCOLS).default('tcp'),
    port: portNumber,
    targetPort: portNumber.optional().describe('Of the backends; default: the same')
  })
  .transform(({ protocol, port: own, targetPort = own }) => ({ protocol, port: own, targetPort }))

const target = {
  ports: parsed(z.array(z.union([parsed(text, parsePortText), port])).max(MAX_SERVICE_PORTS), asPorts)
    .optional()
    .describe('As objects, or as text: `PORT[:TARGET][/PROTOCOL]`'),
  select: parsed(z.array(parsed(term, parseSelectorTerm)).max(MAX_SELECT_TERMS), asSelect)
    .optional()
    .describe('`key=value` or `key`: the endpoints on which all hold'),
  backends: parsed(z.array(parsed(text, parseBackendText)).max(MAX_BACKENDS), asBackends)
    .optional()
    .describe('Instead of `select`: addresses of endpoints, `ADDRESS[:PORT]`'),
  affinitySeconds: z.number().int().min(0).max(MAX_AFFINITY_SECONDS).optional()
}

export const serviceCreateBody = z
  .strictObject({
    network: networkName,
    name: serviceName,
    headless: z.boolean().default(false),
    addresses: parsed(z.array(ip).max(2), asServiceAddresses)
      .optional()
      .describe('One of each family at most; default: the next free one of each of the network’s subnets'),
    ...target,
    requestId
  })
  .refine(body => (body.select === undefined) !== (body.backends === undefined), {
    message: 'give either select or backends',
    path: ['select']
  })
  .refine(body => !body.headless || body.addresses === undefined, {
    message: 'a headless service has none',
    path: ['addresses']
  })
  .transform(({ ports = [], affinitySeconds = 0, ...facts }) => ({ ...facts, ports, affinitySeconds }))

export const serviceUpdateBody = z
  .strictObject(target)
  .refine(body => body.select === undefined || body.backends === undefined, {
    message: 'give either select or backends',
    path: ['select']
  })
  .refine(body => Object.values(body).some(value => value !== undefined), {
    message: `give at least one of ${Object.keys(target).join(', ')}`
  })

export const namespaceName = parsed(text, parseNamespaceName)

export const namespaceMapBody = z.strictObject({
  network: networkName,
  grants: z.array(networkName).max(GRANTS_MAX).default([])
})

export const joinBody = z.strictObject({ addresses: z.array(parsed(text, parseJoinAddress)).min(1).max(64) })

/** The parsed value. Errors about the whole value name `whole`. @throws ERR_INVALID naming the field */
export function check<T>(schema: z.ZodType<T>, value: unknown, whole = 'body'): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  if (issue === undefined) throw new VxmeshError('ERR_INVALID', `${whole}: is invalid`, { field: whole })
  if (issue.code === 'unrecognized_keys') throw invalid(issue.keys[0] ?? whole, 'is not a known field')
  throw invalid(issue.path.length === 0 ? whole : issue.path.map(String).join('.'), issue.message)
}
