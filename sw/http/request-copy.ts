const hasBody = ({ method }: Request): boolean => method !== 'GET' && method !== 'HEAD'

/** A second copy of the request, taken before the first is sent; undefined if it has none. */
export const copyOf = (request: Request): Request | undefined => {
  try {
    return hasBody(request) ? request.clone() : request
  } catch {
    return undefined
  }
}
