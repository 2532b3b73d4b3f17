/** The bytes behind base64url (RFC 7515 2). Throws where it is something else. */
export const bytesOf = (base64url: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(base64url.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  )

/** The members of a JSON object; undefined if the text is none. */
export const parseObject = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return value instanceof Object ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** A part of a JWT, unchecked: the header, or the claims. */
export const readJwt = (jwt: string, part: 0 | 1): Record<string, unknown> => {
  try {
    return parseObject(new TextDecoder().decode(bytesOf(jwt.split('.')[part] ?? ''))) ?? {}
  } catch {
    return {}
  }
}
