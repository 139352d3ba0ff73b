// Codec of the few nf_tables messages (linux/netfilter/nf_tables.h) that are too frequent to run nft for: set elements,
// the ruleset generation, named counters, the table name of a notification. Tables and rules are loaded by nft. Pure.

import { attributesOf, readText, viewOf, Writer, type Message } from './bytes.ts'
import { NLM_F_CREATE } from './constants.ts'

/** NETLINK_NETFILTER. */
export const NFNETLINK = 12
/** Multicast group of all ruleset changes. */
export const NFNLGRP_NFTABLES = 7

const SUBSYSTEM = 10
const NFNL_MSG_BATCH_BEGIN = 0x10
const NFNL_MSG_BATCH_END = 0x11
const NFNL_BATCH_GENID = 1
const NFT_MSG_DELTABLE = 2
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NFT_MSG_GETGEN = 16
/** Type of an object in the answer to `getCounters`. */
export const NEW_OBJECT = (SUBSYSTEM << 8) | 18
const NFT_MSG_GETOBJ = 19
const NFT_OBJECT_COUNTER = 1
const NFTA_OBJ_NAME = 2
const NFTA_OBJ_TYPE = 3
const NFTA_OBJ_DATA = 4
const NFTA_COUNTER_PACKETS = 2
const NFTA_GEN_ID = 1
/** The table name is attribute 1 of every message type except the generation's. */
const NFTA_TABLE = 1
const NFTA_SET_ELEM_LIST_SET = 2
const NFTA_SET_ELEM_LIST_ELEMENTS = 3
const NFTA_LIST_ELEM = 1
const NFTA_SET_ELEM_KEY = 1
const NFTA_DATA_VALUE = 1

const FAMILIES = { inet: 1, bridge: 7 } as const

/** struct nfgenmsg. */
const HEADER_BYTES = 4

export type SetRef = { readonly family: keyof typeof FAMILIES; readonly name: string; readonly set: string }

/** The kernel rejects the batch unless the ruleset still has this generation; null accepts any. */
export function beginBatch(generation: number | null): Message {
  const writer = header(0, SUBSYSTEM)
  if (generation !== null) writer.attribute(NFNL_BATCH_GENID, u32Be(generation))
  return writer.message(NFNL_MSG_BATCH_BEGIN, 0)
}

export function endBatch(): Message {
  return header(0, SUBSYSTEM).message(NFNL_MSG_BATCH_END, 0)
}

export function addSetElement(set: SetRef, key: Uint8Array): Message {
  return setElement(set, key).message(type(NFT_MSG_NEWSETELEM), NLM_F_CREATE)
}

export function deleteSetElement(set: SetRef, key: Uint8Array): Message {
  return setElement(set, key).message(type(NFT_MSG_DELSETELEM), 0)
}

export function deleteTable(table: Pick<SetRef, 'family' | 'name'>): Message {
  return header(FAMILIES[table.family]).attributeText(NFTA_TABLE, table.name).message(type(NFT_MSG_DELTABLE), 0)
}

export function getGeneration(): Message {
  return header(0).message(type(NFT_MSG_GETGEN), 0)
}

/** The generation in the reply to `getGeneration`; null when the payload is malformed. */
export function decodeGeneration(payload: Uint8Array): number | null {
  const id = attributesOf(payload, HEADER_BYTES).get(NFTA_GEN_ID)
  return id?.length === 4 ? viewOf(id).getUint32(0) : null
}

/** The generation after one committed change. It skips zero. */
export function nextGeneration(generation: number): number {
  return (generation + 1) >>> 0 || 1
}

/** To be dumped: the named counters of a table. */
export function getCounters(table: Pick<SetRef, 'family' | 'name'>): Message {
  return header(FAMILIES[table.family])
    .attributeText(NFTA_TABLE, table.name)
    .attribute(NFTA_OBJ_TYPE, u32Be(NFT_OBJECT_COUNTER))
    .message(type(NFT_MSG_GETOBJ), 0)
}

/** Null when the payload is malformed or not a counter of that table. */
export function decodeCounter(
  table: Pick<SetRef, 'name'>,
  payload: Uint8Array
): { readonly name: string; readonly packets: number } | null {
  const attributes = attributesOf(payload, HEADER_BYTES)
  const [name, data] = [attributes.get(NFTA_OBJ_NAME), attributes.get(NFTA_OBJ_DATA)]
  const kind = attributes.get(NFTA_OBJ_TYPE)
  if (name === undefined || data === undefined || decodeTableName(payload) !== table.name) return null
  if (kind?.length !== 4 || viewOf(kind).getUint32(0) !== NFT_OBJECT_COUNTER) return null
  const packets = attributesOf(data).get(NFTA_COUNTER_PACKETS)
  return packets?.length === 8 ? { name: readText(name), packets: Number(viewOf(packets).getBigUint64(0)) } : null
}

/** The table name of a notification; an empty string when it has none. */
export function decodeTableName(payload: Uint8Array): string {
  const name = attributesOf(payload, HEADER_BYTES).get(NFTA_TABLE)
  return name === undefined ? '' : readText(name)
}

function setElement({ family, name, set }: SetRef, key: Uint8Array): Writer {
  return header(FAMILIES[family])
    .attributeText(NFTA_TABLE, name)
    .attributeText(NFTA_SET_ELEM_LIST_SET, set)
    .nested(NFTA_SET_ELEM_LIST_ELEMENTS, list =>
      list.nested(NFTA_LIST_ELEM, element =>
        element.nested(NFTA_SET_ELEM_KEY, data => data.attribute(NFTA_DATA_VALUE, key))
      )
    )
}

/** struct nfgenmsg: family, version 0, resource id in network order. */
function header(family: number, resource = 0): Writer {
  return new Writer()
    .u8(family)
    .u8(0)
    .u8(resource >> 8)
    .u8(resource & 255)
}

function type(message: number): number {
  return (SUBSYSTEM << 8) | message
}

function u32Be(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}
