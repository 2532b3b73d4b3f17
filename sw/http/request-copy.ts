/** Firefox does not say whether there is a body; the method tells at least where there is none. */
const hasBody = ({ method, body }: Request): boolean =>
  body !== null && method !== 'GET' && method !== 'HEAD'

/** A second copy of the request, taken before the first is sent; undefined if it has none. */
export const copyOf = (request: Request): Request | undefined => {
  try {
    return hasBody(request) ? request.clone() : request
  } catch {
    return undefined
  }
}
