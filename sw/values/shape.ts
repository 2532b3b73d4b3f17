/**
 * What a value has to be: of a simple kind, or an object with these members and any others. A `?`
 * at the end of a member's name: it may be missing.
 */
export type Kind =
  | 'boolean'
  | 'list'
  | 'number'
  | 'object'
  | 'printable'
  | 'string'
  | 'strings'
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

/** Does a value from outside (a message, a stored record) have this shape? */
export const fits = (value: unknown, kind: Kind): boolean => {
  switch (kind) {
    case 'list':
      return Array.isArray(value)
    case 'number':
      // NaN and bigint spoil or break what is calculated with them.
      return Number.isFinite(value)
    case 'printable':
      // Other characters do not go into a header.
      return typeof value === 'string' && /^[ -~]*$/.test(value)
    case 'object':
      return isObject(value)
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

const memberFits = (value: Record<string, unknown>, key: string, kind: Kind): boolean => {
  const [name = '', optional] = key.split('?')
  const member = value[name]
  return (optional !== undefined && member === undefined) || fits(member, kind)
}
