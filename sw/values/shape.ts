/**
 * What a value has to be: of a simple kind, a list of one kind, or an object with these members and
 * any others. A `?` at the end of a member's name: it may be missing.
 */
export type Kind =
  | 'any'
  | 'boolean'
  | 'key'
  | 'number'
  | 'object'
  | 'printable'
  | 'string'
  | 'strings'
  | [Kind]
  | Shape
export interface Shape {
  [name: string]: Kind
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

/** An object that is not a list: a class may have made it. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  isObject(value) && !Array.isArray(value)

/** An object as source code writes it: no list, map, buffer or port. */
export const isPlain = (value: unknown): value is Record<string, unknown> =>
  isObject(value) && Object.getPrototypeOf(value) === Object.prototype

/** A longer list takes too long to go through. A server cannot publish one: see `readBody`. */
const mostInList = 10_000

/** Does a value from outside (a message, a stored record) have this shape? */
export const fits = (value: unknown, kind: Kind): boolean => {
  if (Array.isArray(kind)) {
    // The length first: a list of nothing can claim any.
    const isList = Array.isArray(value) && value.length <= mostInList
    return isList && [...value].every((each) => fits(each, kind[0]))
  }
  switch (kind) {
    case 'any':
      return true
    case 'key':
      return value instanceof CryptoKey
    case 'number':
      // NaN and bigint spoil or break what is calculated with them.
      return Number.isFinite(value)
    case 'printable':
      // Other characters do not go into a header.
      return typeof value === 'string' && /^[ -~]*$/.test(value)
    case 'object':
      return isPlain(value)
    case 'strings':
      return isPlain(value) && Object.values(value).every((each) => typeof each === 'string')
    case 'boolean':
    case 'string':
      return typeof value === kind
  }
  return (
    isObject(value) && Object.entries(kind).every(([key, kind]) => memberFits(value, key, kind))
  )
}

/** No answer of a server is nested as deeply. */
const mostLevels = 1_000

/**
 * Do the texts, lists and members in this value come to no more than `most`? Any script of the
 * origin can store a value that takes the worker's thread minutes to go through.
 */
export const isWithin = (most: number, value: unknown): boolean => {
  let left = most
  const take = (each: unknown, level: number): boolean => {
    const isMap = isPlain(each)
    const { length = 0, byteLength = length } = isMap ? {} : Object(each)
    left -= 1 + byteLength
    if (left < 0 || level > mostLevels) return false
    if (!isMap && !Array.isArray(each)) return true
    return Object.values(each).every((member) => take(member, level + 1))
  }
  return take(value, 0)
}

const memberFits = (value: Record<string, unknown>, key: string, kind: Kind): boolean => {
  const [name = '', optional] = key.split('?')
  const member = value[name]
  return (optional !== undefined && member === undefined) || fits(member, kind)
}
