//! An answer's JSON that was rendered before it is sent, because it is kept as well.

use std::marker::PhantomData;

use poem::{IntoResponse, Response};
use poem_openapi::{
    payload::{Json, Payload},
    registry::{MetaSchemaRef, Registry},
    types::Type,
};

/// JSON text of the shape `T`.
pub(in crate::doors) struct Rendered<T> {
    text: String,
    shape: PhantomData<fn() -> T>,
}

impl<T> From<String> for Rendered<T> {
    fn from(text: String) -> Self {
        Self { text, shape: PhantomData }
    }
}

impl<T> IntoResponse for Rendered<T> {
    fn into_response(self) -> Response {
        Response::builder().content_type("application/json; charset=utf-8").body(self.text)
    }
}

impl<T: Type> Payload for Rendered<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
