import { parseObject } from '../http/body.js'
import { bytesOf } from '../values/base64.js'

/** A part of a JWT, unchecked: the header (0) or the claims (1); empty if it cannot be read. */
export const readJwt = (jwt: string, part: 0 | 1): Record<string, unknown> => {
  try {
    return parseObject(new TextDecoder().decode(bytesOf(jwt.split('.')[part] ?? ''))) ?? {}
  } catch {
    return {}
  }
}
