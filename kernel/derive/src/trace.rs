//! `#[derive(Trace)]`: a constant expression that names each field's offset and its type's `SCAN`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Index, Member, Result, Token, Type, Variant, parse_quote,
};

pub(crate) fn expand(mut input: DeriveInput) -> Result<TokenStream> {
    if input.attrs.iter().any(is_packed) {
        return Err(Error::new_spanned(
            &input.ident,
            "`Trace` cannot be derived for a packed type: the collector reads aligned words, and a packed field may lie across two of them",
        ));
    }
    // The variants of an enum share words.
    let sure = match &input.data {
        Data::Struct(data) => data.fields.iter().map(|field| sure(&field.ty)).collect(),
        _ => vec![quote!(matches!(Self::SCAN, ::runtime::trace::Scan::Noscan))],
    };
    let fields = match &input.data {
        Data::Struct(data) => scans(&data.fields, None),
        Data::Enum(data) => {
            data.variants.iter().flat_map(|variant| scans(&variant.fields, Some(&variant.ident))).collect()
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "`Trace` cannot be derived for a union: use an enum, or implement it by hand as `Scan::Ambiguous`",
            ));
        }
    };
    let patterns = patterns(&input);
    bound_used_parameters(&mut input);
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        // Another attribute may change the type after this derive has read it. The compiler sees the end: it refuses a field that is
        // not listed here, and a reference to one that a packed type misaligns.
        const _: () = {
            #[allow(dead_code)]
            fn every_field #generics (value: &#name #arguments) #bounds {
                match *value { #(#patterns => {})* }
            }
        };

        // SAFETY: every field is listed, at the offset that the compiler gave it, with its own type's answer.
        #[automatically_derived]
        #[allow(unsafe_code, clippy::undocumented_unsafe_blocks)]
        unsafe impl #generics ::runtime::trace::Trace for #name #arguments #bounds {
            const SCAN: ::runtime::trace::Scan = {
                #[allow(unused_imports)]
                use ::runtime::trace::Unlisted as _;
                ::runtime::trace::Scan::of_fields(::core::mem::size_of::<Self>(), &[#(#fields),*])
            };
            const SURE: bool = {
                #[allow(unused_imports)]
                use ::runtime::trace::Unlisted as _;
                true #(&& #sure)*
            };
        }
    })
}

/// `(offset, scan)` for each field of a struct or of one variant.
fn scans(fields: &Fields, variant: Option<&Ident>) -> Vec<TokenStream> {
    let variant = variant.map(|name| quote!(#name.));
    fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let member = field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
            let scan = match &field.ty {
                // `for<'a> fn(&'a T)` is of no arity that the runtime's own list could name.
                Type::FnPtr(_) => quote!(::runtime::trace::Scan::Noscan),
                other => quote!(<::runtime::trace::Probe<#other>>::SCAN),
            };
            quote!((::core::mem::offset_of!(Self, #variant #member), #scan))
        })
        .collect()
}

/// A pattern for a struct, one for each variant of an enum, that names every field and takes its address.
fn patterns(input: &DeriveInput) -> Vec<TokenStream> {
    let name = &input.ident;
    let pattern = |path: TokenStream, fields: &Fields| {
        let members = fields.members();
        let names = (0..fields.len()).map(|index| format_ident!("_field{index}"));
        quote!(#path { #(#members: ref #names),* })
    };
    match &input.data {
        Data::Struct(data) => vec![pattern(quote!(#name), &data.fields)],
        Data::Enum(data) => {
            let variants = data.variants.iter();
            variants.map(|Variant { ident, fields, .. }| pattern(quote!(#name::#ident), fields)).collect()
        }
        Data::Union(_) => Vec::new(),
    }
}

/// Whether the words that a field's type names hold references and nothing else.
fn sure(ty: &Type) -> TokenStream {
    match ty {
        Type::FnPtr(_) => quote!(true),
        other => quote!(<::runtime::trace::Probe<#other>>::SURE),
    }
}

/// Adds `T: Trace` for every type parameter that a field needs it for.
fn bound_used_parameters(input: &mut DeriveInput) {
    let used: Vec<Ident> = {
        let types: Vec<&Type> = all_fields(&input.data).map(|field| &field.ty).filter(|ty| !is_phantom(ty)).collect();
        input
            .generics
            .type_params()
            .map(|parameter| &parameter.ident)
            .filter(|name| types.iter().any(|ty| mentions(ty.to_token_stream(), name)))
            .cloned()
            .collect()
    };
    let bounds = &mut input.generics.make_where_clause().predicates;
    for name in used {
        bounds.push(parse_quote!(#name: ::runtime::trace::Trace));
    }
}

fn all_fields(data: &Data) -> Box<dyn Iterator<Item = &Field> + '_> {
    match data {
        Data::Struct(data) => Box::new(data.fields.iter()),
        Data::Enum(data) => Box::new(data.variants.iter().flat_map(|variant| variant.fields.iter())),
        Data::Union(_) => Box::new(core::iter::empty()),
    }
}

fn is_phantom(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "PhantomData"))
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|tree| match tree {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

/// Whether one of the words in `#[repr(…)]` is `packed` or `packed(N)`.
fn is_packed(attribute: &Attribute) -> bool {
    attribute.path().is_ident("repr")
        && attribute
            .parse_args_with(Punctuated::<syn::Meta, Token![,]>::parse_terminated)
            .is_ok_and(|words| words.iter().any(|word| word.path().is_ident("packed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(input: DeriveInput) -> String {
        expand(input).expect_err("the type is refused").to_string()
    }

    #[test]
    fn packed_types_are_refused_however_they_say_it() {
        assert!(
            refusal(parse_quote!(
                #[repr(packed)]
                struct A(u8, u64);
            ))
            .contains("packed")
        );
        assert!(
            refusal(parse_quote!(
                #[repr(C, packed(4))]
                struct A {
                    a: u8,
                }
            ))
            .contains("packed")
        );
        assert!(
            expand(parse_quote!(
                #[repr(C, align(16))]
                struct A {
                    a: u8,
                }
            ))
            .is_ok()
        );
    }

    #[test]
    fn unions_are_refused() {
        assert!(refusal(parse_quote!(union A { a: u8, b: u64 })).contains("union"));
    }

    #[test]
    fn only_used_parameters_are_bounded() {
        let expanded = expand(parse_quote!(
            struct A<T, U, V>(Vec<(u8, T)>, PhantomData<U>, [V; 2]);
        ))
        .expect("a plain struct")
        .to_string();
        assert!(
            expanded.contains("T : :: runtime :: trace :: Trace")
                && expanded.contains("V : :: runtime :: trace :: Trace")
        );
        assert!(!expanded.contains("U : :: runtime :: trace :: Trace"));
    }
}
